import os

from authlib.integrations.flask_client import OAuth
from flask import Flask, redirect, session

issuer, base = os.environ["ISSUER"], os.environ["BASE"]
app = Flask(__name__)
app.secret_key = "a secret"
oauth = OAuth(app)
oauth.register(
    name="holdfast",
    client_id=os.environ["CLIENT_ID"],
    client_secret=os.environ["CLIENT_SECRET"],
    server_metadata_url=f"{issuer}/.well-known/openid-configuration",
    client_kwargs={"scope": "openid email", "code_challenge_method": "S256"},
)


@app.route("/login")
def login():
    return oauth.holdfast.authorize_redirect(f"{base}/callback")


@app.route("/callback")
def callback():
    token = oauth.holdfast.authorize_access_token()
    session["id_token"] = token["id_token"]
    session["token"] = {name: token[name] for name in ("access_token", "refresh_token", "token_type")}
    return redirect("/user")


@app.route("/user")
def user():
    return dict(oauth.holdfast.userinfo(token=session["token"]))


@app.route("/refresh")
def refresh():
    metadata = oauth.holdfast.load_server_metadata()
    client = oauth.holdfast._get_oauth_client(**metadata)
    token = client.refresh_token(metadata["token_endpoint"], session["token"]["refresh_token"])
    session["token"] = {name: token[name] for name in ("access_token", "refresh_token", "token_type")}
    return {"access_token": token["access_token"]}


@app.route("/logout")
def logout():
    metadata = oauth.holdfast.load_server_metadata()
    hint = session.pop("id_token")
    place = f"{metadata['end_session_endpoint']}?id_token_hint={hint}&post_logout_redirect_uri={base}/bye"
    return redirect(place)


@app.route("/bye")
def bye():
    return {}


app.run("localhost", int(os.environ["PORT"]))
