#!/bin/bash
# oauth2-proxy before an application that shows the access token that it is given.
set -e
upstream=$FOLDER/upstream.sock
node -e '
  const { createServer } = require("node:http")
  createServer((req, res) => {
    res.end(JSON.stringify({ access_token: req.headers["x-forwarded-access-token"] }))
  }).listen(process.argv[1])
' "$upstream" &
exec ./oauth2-proxy \
  --provider=oidc \
  --oidc-issuer-url="$ISSUER" \
  --client-id="$CLIENT_ID" \
  --client-secret="$CLIENT_SECRET" \
  --redirect-url="$BASE/oauth2/callback" \
  --code-challenge-method=S256 \
  --provider-ca-file="$NODE_EXTRA_CA_CERTS" \
  --email-domain='*' \
  --cookie-secret=0123456789abcdef0123456789abcdef \
  --cookie-secure=false \
  --cookie-refresh=1s \
  --pass-access-token \
  --skip-provider-button \
  --http-address="localhost:$PORT" \
  --upstream="unix://$upstream"
