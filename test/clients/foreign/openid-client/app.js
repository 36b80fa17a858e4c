import { readFileSync } from 'node:fs'
import express from 'express'
import * as oidc from 'openid-client'
import * as undici from 'undici'

const { ISSUER, CLIENT_ID, CLIENT_SECRET, BASE, PORT, CERTIFICATE, CERTIFICATE_KEY } = process.env

const discover = (metadata, authentication, options) =>
  oidc.discovery(new URL(ISSUER), CLIENT_ID, metadata, authentication, options)

async function withDPoP() {
  const config = await discover(undefined, oidc.ClientSecretBasic(CLIENT_SECRET))
  return [config, { DPoP: oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair('ES256')) }]
}

async function withCertificate() {
  const certificate = { cert: readFileSync(CERTIFICATE), key: readFileSync(CERTIFICATE_KEY) }
  const ca = readFileSync(process.env.NODE_EXTRA_CA_CERTS)
  const dispatcher = new undici.Agent({ connect: { ...certificate, ca } })
  const customFetch = (url, options) => undici.fetch(url, { ...options, dispatcher })
  const metadata = { use_mtls_endpoint_aliases: true }
  const options = { [oidc.customFetch]: customFetch }
  return [await discover(metadata, oidc.TlsClientAuth(), options), {}]
}

const [config, options] = await (CERTIFICATE ? withCertificate() : withDPoP())
const redirect_uri = `${BASE}/callback`
const checks = {}
let idToken
let sub
let tokens

const app = express()
app.get('/login', async (_req, res) => {
  checks.pkceCodeVerifier = oidc.randomPKCECodeVerifier()
  checks.expectedState = oidc.randomState()
  const parameters = {
    redirect_uri,
    scope: 'openid email',
    code_challenge: await oidc.calculatePKCECodeChallenge(checks.pkceCodeVerifier),
    code_challenge_method: 'S256',
    state: checks.expectedState,
  }
  const url = await oidc.buildAuthorizationUrlWithPAR(config, parameters, options)
  res.redirect(url.href)
})
app.get('/callback', async (req, res) => {
  const url = new URL(req.originalUrl, BASE)
  tokens = await oidc.authorizationCodeGrant(config, url, checks, undefined, options)
  idToken = tokens.id_token
  sub = tokens.claims().sub
  res.redirect('/user')
})
app.get('/user', async (_req, res) => {
  res.json(await oidc.fetchUserInfo(config, tokens.access_token, sub, options))
})
app.get('/refresh', async (_req, res) => {
  tokens = await oidc.refreshTokenGrant(config, tokens.refresh_token, undefined, options)
  res.json({ access_token: tokens.access_token })
})
app.get('/logout', (_req, res) => {
  const parameters = { id_token_hint: idToken, post_logout_redirect_uri: `${BASE}/bye` }
  res.redirect(oidc.buildEndSessionUrl(config, parameters).href)
})
app.get('/bye', (_req, res) => res.json({}))
app.listen(PORT, 'localhost')
