// A device without a browser (RFC 8628), whose tokens are bound to its key from the first request.
import { createHash, randomUUID } from 'node:crypto'
import { exportJWK, SignJWT } from 'jose'
import * as oidc from 'openid-client'

const { ISSUER = 'https://localhost:9443', API = 'https://localhost:3001' } = process.env
const { CLIENT_ID = 'television' } = process.env

const config = await oidc.discovery(new URL(ISSUER), CLIENT_ID, undefined, oidc.None())
const key = await oidc.randomDPoPKeyPair('ES256')
const DPoP = oidc.getDPoPHandle(config, key)

// openid-client sends no proof to the device authorization endpoint: this fetch adds it.
config[oidc.customFetch] = async (url, options) => {
  const { device_authorization_endpoint } = config.serverMetadata()
  if (url !== device_authorization_endpoint) return fetch(url, options)
  const proof = await makeProof('POST', url)
  return fetch(url, { ...options, headers: { ...options.headers, dpop: proof } })
}

const parameters = { scope: 'openid read', resource: API }
const asked = await oidc.initiateDeviceAuthorization(config, parameters)
console.log(`Open ${asked.verification_uri} and type ${asked.user_code}`)

const tokens = await oidc.pollDeviceAuthorizationGrant(config, asked, { resource: API }, { DPoP })
const url = new URL('/orders', API)
const proof = await makeProof('GET', url.href, tokens.access_token)
const headers = { authorization: `DPoP ${tokens.access_token}`, dpop: proof }
const response = await fetch(url, { headers })
console.log(response.status, await response.text())

/** RFC 9449 section 4.2. */
async function makeProof(htm, htu, accessToken) {
  const ath = accessToken && createHash('sha256').update(accessToken).digest('base64url')
  const jwk = await exportJWK(key.publicKey)
  return new SignJWT({ htm, htu, jti: randomUUID(), ...(ath && { ath }) })
    .setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk })
    .setIssuedAt()
    .sign(key.privateKey)
}
