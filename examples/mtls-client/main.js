// A program whose TLS certificate authenticates it and binds its tokens (RFC 8705).
import { readFileSync } from 'node:fs'
import * as oidc from 'openid-client'
import { Agent, fetch } from 'undici'

const { ISSUER = 'https://localhost:9443', API = 'https://localhost:3001' } = process.env
const { CLIENT_ID = 'ledger', TLS_CERT = 'ledger.pem', TLS_KEY = 'ledger-key.pem' } = process.env
const { NODE_EXTRA_CA_CERTS } = process.env

const dispatcher = new Agent({
  connect: {
    cert: readFileSync(TLS_CERT),
    key: readFileSync(TLS_KEY),
    // Only where the server has a development certificate.
    ...(NODE_EXTRA_CA_CERTS && { ca: readFileSync(NODE_EXTRA_CA_CERTS) }),
  },
})
const config = await oidc.discovery(
  new URL(ISSUER),
  CLIENT_ID,
  // Send token requests to the port that asks for certificates.
  { use_mtls_endpoint_aliases: true },
  oidc.TlsClientAuth(),
  { [oidc.customFetch]: (url, options) => fetch(url, { ...options, dispatcher }) },
)

const tokens = await oidc.clientCredentialsGrant(config, { resource: API, scope: 'read' })
const headers = { authorization: `Bearer ${tokens.access_token}` }
const response = await fetch(new URL('/orders', API), { headers, dispatcher })
console.log(response.status, await response.text())

// The same token without the certificate.
const stolen = await globalThis.fetch(new URL('/orders', API), { headers })
console.log(stolen.status, stolen.headers.get('www-authenticate'))
