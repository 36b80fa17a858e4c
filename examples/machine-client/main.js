// A program that calls an API in its own name (client_credentials), with openid-client.
import * as oidc from 'openid-client'

const { ISSUER = 'https://localhost:9443', API = 'https://localhost:3001' } = process.env
const { CLIENT_ID, CLIENT_SECRET } = process.env

const authentication = oidc.ClientSecretBasic(CLIENT_SECRET)
const config = await oidc.discovery(new URL(ISSUER), CLIENT_ID, undefined, authentication)
const DPoP = oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair('ES256'))

const parameters = { resource: API, scope: 'read' }
const tokens = await oidc.clientCredentialsGrant(config, parameters, { DPoP })
const { access_token } = tokens
const url = new URL('/orders', API)
const response = await oidc.fetchProtectedResource(
  config,
  access_token,
  url,
  'GET',
  undefined,
  undefined,
  { DPoP },
)
console.log(response.status, await response.text())

// The same token as a thief would send it.
const stolen = await fetch(url, { headers: { authorization: `Bearer ${access_token}` } })
console.log(stolen.status, stolen.headers.get('www-authenticate'))
