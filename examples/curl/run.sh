#!/bin/sh
# A token and an API call with curl; "holdfast proof" makes the DPoP proofs.
set -eu
: "${ISSUER:=https://localhost:9443}" "${API:=https://localhost:3001}"

proof=$(holdfast proof --key key.jwk --new-key POST "$ISSUER/token")
token=$(curl --silent --fail-with-body "$ISSUER/token" \
  --user "$CLIENT_ID:$CLIENT_SECRET" --header "DPoP: $proof" \
  --data grant_type=client_credentials --data scope=read --data "resource=$API" |
  sed 's/.*"access_token":"\([^"]*\)".*/\1/')

proof=$(holdfast proof --key key.jwk --token "$token" GET "$API/orders")
curl --silent --fail-with-body "$API/orders" \
  --header "Authorization: DPoP $token" --header "DPoP: $proof"
