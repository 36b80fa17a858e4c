import express from 'express'
import * as oauth from 'oauth4webapi'

const { ISSUER, CLIENT_ID, CLIENT_SECRET, BASE, PORT } = process.env
const issuer = new URL(ISSUER)
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer))
const client = { client_id: CLIENT_ID }
const authentication = oauth.ClientSecretBasic(CLIENT_SECRET)
const options = { DPoP: oauth.DPoP(client, await oauth.generateKeyPair('ES256')) }
const redirectUri = `${BASE}/callback`
let verifier
let state
let tokens

const app = express()
app.get('/login', async (_req, res) => {
  verifier = oauth.generateRandomCodeVerifier()
  state = oauth.generateRandomState()
  const url = new URL(as.authorization_endpoint)
  url.search = new URLSearchParams({
    client_id: CLIENT_ID,
    redirect_uri: redirectUri,
    response_type: 'code',
    scope: 'openid email',
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
  })
  res.redirect(url.href)
})
app.get('/callback', async (req, res) => {
  const url = new URL(req.originalUrl, BASE)
  const parameters = oauth.validateAuthResponse(as, client, url, state)
  const response = await oauth.authorizationCodeGrantRequest(
    ...[as, client, authentication, parameters, redirectUri, verifier, options],
  )
  tokens = await oauth.processAuthorizationCodeResponse(as, client, response)
  res.redirect('/user')
})
app.get('/user', async (_req, res) => {
  const response = await oauth.userInfoRequest(as, client, tokens.access_token, options)
  const { sub } = oauth.getValidatedIdTokenClaims(tokens)
  res.json(await oauth.processUserInfoResponse(as, client, sub, response))
})
app.get('/refresh', async (_req, res) => {
  const { refresh_token } = tokens
  const response = await oauth.refreshTokenGrantRequest(
    ...[as, client, authentication, refresh_token, options],
  )
  tokens = await oauth.processRefreshTokenResponse(as, client, response)
  res.json({ access_token: tokens.access_token })
})
app.get('/logout', (_req, res) => {
  const url = new URL(as.end_session_endpoint)
  url.searchParams.set('id_token_hint', tokens.id_token)
  url.searchParams.set('post_logout_redirect_uri', `${BASE}/bye`)
  res.redirect(url.href)
})
app.get('/bye', (_req, res) => res.json({}))
app.listen(PORT, 'localhost')
