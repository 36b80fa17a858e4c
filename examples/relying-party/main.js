// A web application that signs people in and calls an API for them, with openid-client.
import { randomUUID } from 'node:crypto'
import express from 'express'
import * as oidc from 'openid-client'

const { ISSUER = 'https://localhost:9443', API = 'https://localhost:3001' } = process.env
const { CLIENT_ID = 'first-app', CLIENT_SECRET } = process.env
const { APP = 'http://127.0.0.1:3000' } = process.env
const redirect_uri = `${APP}/callback`

const authentication = CLIENT_SECRET ? oidc.ClientSecretBasic(CLIENT_SECRET) : oidc.None()
const config = await oidc.discovery(new URL(ISSUER), CLIENT_ID, undefined, authentication)
const DPoP = oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair('ES256'))

const logins = new Map()
const sessions = new Map()
const app = express()

app.get('/', async (req, res) => {
  const session = sessions.get(readCookie(req, 'session'))
  if (!session) return res.send('<a href="/login">Sign in</a>')
  const url = new URL('/orders', API)
  const response = await oidc.fetchProtectedResource(
    config,
    session.tokens.access_token,
    url,
    'GET',
    undefined,
    undefined,
    { DPoP },
  )
  res.type('text').send(`${session.name}: ${await response.text()}`)
})

app.get('/login', async (_req, res) => {
  const verifier = oidc.randomPKCECodeVerifier()
  const [state, nonce] = [oidc.randomState(), oidc.randomNonce()]
  const parameters = {
    redirect_uri,
    scope: 'openid profile read',
    resource: API,
    code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
    nonce,
  }
  const url = await oidc.buildAuthorizationUrlWithPAR(config, parameters, { DPoP })
  logins.set(state, { verifier, nonce })
  res.cookie('login', state, { httpOnly: true, sameSite: 'lax' }).redirect(url.href)
})

app.get('/callback', async (req, res) => {
  const state = readCookie(req, 'login')
  const login = logins.get(state)
  if (!login || !logins.delete(state)) return res.sendStatus(400)
  const url = new URL(req.originalUrl, APP)
  const checks = {
    pkceCodeVerifier: login.verifier,
    expectedState: state,
    expectedNonce: login.nonce,
  }
  const tokens = await oidc.authorizationCodeGrant(config, url, checks, { resource: API }, { DPoP })
  const id = randomUUID()
  sessions.set(id, { tokens, name: tokens.claims().sub })
  res.cookie('session', id, { httpOnly: true, sameSite: 'lax' }).redirect('/')
})

function readCookie(req, name) {
  const pairs = (req.headers.cookie ?? '').split('; ').map((pair) => pair.split('='))
  return new Map(pairs).get(name)
}

app.listen(new URL(APP).port, () => console.log(`The application listens at ${APP}`))
