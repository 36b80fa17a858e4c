"""Signs the requests of schemathesis: each carries a DPoP-bound access token for the admin API and
a proof of its own (RFC 9449). Reads HOLDFAST_ISSUER, HOLDFAST_CLIENT_ID and HOLDFAST_CLIENT_SECRET,
of a client that was registered with `administration: write`."""

import base64
import hashlib
import json
import os
import time
import urllib.parse
import urllib.request
import uuid

import jwt
import schemathesis
from cryptography.hazmat.primitives.asymmetric import ec
from requests.auth import AuthBase

ISSUER = os.environ["HOLDFAST_ISSUER"]
KEY = ec.generate_private_key(ec.SECP256R1())
JWK = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key()))


def proof(method, url, token=None):
    claims = {"jti": str(uuid.uuid4()), "iat": int(time.time()), "htm": method, "htu": url}
    if token is not None:
        digest = hashlib.sha256(token.encode()).digest()
        claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return jwt.encode(claims, KEY, algorithm="ES256", headers={"typ": "dpop+jwt", "jwk": JWK})


def fetch_token():
    url = f"{ISSUER}/token"
    named = f"{os.environ['HOLDFAST_CLIENT_ID']}:{os.environ['HOLDFAST_CLIENT_SECRET']}"
    form = {
        "grant_type": "client_credentials",
        "scope": "admin:read admin:write",
        "resource": f"{ISSUER}/admin",
    }
    headers = {
        "Authorization": "Basic " + base64.b64encode(named.encode()).decode(),
        "DPoP": proof("POST", url),
    }
    request = urllib.request.Request(url, urllib.parse.urlencode(form).encode(), headers)
    with urllib.request.urlopen(request) as response:
        return json.load(response)["access_token"]


class BoundToken(AuthBase):
    """Signs a request as it is about to be sent: only then is its URL final."""

    token, fetched_at = None, 0.0

    def __call__(self, request):
        # A run may retire the key that signed the token: none is kept for long.
        if time.monotonic() - self.fetched_at > 2:
            self.token, self.fetched_at = fetch_token(), time.monotonic()
        request.headers["Authorization"] = f"DPoP {self.token}"
        request.headers["DPoP"] = proof(request.method, request.url.split("?")[0], self.token)
        return request


schemathesis.auth.set_from_requests(BoundToken())


@schemathesis.hook
def before_call(context, case, kwargs):
    """A run must not remove the client that it runs as, or change its secret."""
    if (case.path_parameters or {}).get("client_id") == os.environ["HOLDFAST_CLIENT_ID"]:
        case.path_parameters["client_id"] = "another-client"
    # A label is for one of the scopes beside it, which a schema cannot say.
    body = case.body if isinstance(case.body, dict) else {}
    # Nor can it say that a password is easy to guess.
    if isinstance(body.get("password"), str) and 15 <= len(body["password"]) <= 200:
        body["password"] = f"{uuid.uuid4()}"
    labels = body.get("scopeLabels")
    if isinstance(labels, dict) and all(isinstance(label, str) for label in labels.values()):
        scopes = body.get("scopes")
        named = scopes if isinstance(scopes, list) else []
        body["scopeLabels"] = {scope: label for scope, label in labels.items() if scope in named}
