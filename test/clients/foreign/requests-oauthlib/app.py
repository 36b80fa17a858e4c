import os

from flask import Flask, redirect, request, session
from requests_oauthlib import OAuth2Session

issuer, base = os.environ["ISSUER"], os.environ["BASE"]
client_id, client_secret = os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]
# The application itself has no TLS here.
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
app = Flask(__name__)
app.secret_key = "a secret"
tokens = {}


def client(**options):
    return OAuth2Session(
        client_id,
        redirect_uri=f"{base}/callback",
        scope=["openid", "email"],
        pkce="S256",
        **options,
    )


@app.route("/login")
def login():
    holdfast = client()
    url, session["state"] = holdfast.authorization_url(f"{issuer}/authorize")
    session["verifier"] = holdfast._code_verifier
    return redirect(url)


@app.route("/callback")
def callback():
    holdfast = client(state=session["state"])
    holdfast._code_verifier = session["verifier"]
    tokens.update(
        holdfast.fetch_token(
            f"{issuer}/token", client_secret=client_secret, authorization_response=request.url
        )
    )
    return redirect("/user")


@app.route("/user")
def user():
    return client(token=tokens).get(f"{issuer}/userinfo").json()


@app.route("/refresh")
def refresh():
    holdfast = client(token=tokens)
    tokens.update(holdfast.refresh_token(f"{issuer}/token", auth=(client_id, client_secret)))
    return {"access_token": tokens["access_token"]}


app.run("localhost", int(os.environ["PORT"]))
