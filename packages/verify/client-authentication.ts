/** How this resource shows an issuer who it is, when it asks about a token (RFC 7662 section 2.1). */
import { createPrivateKey, type KeyObject, randomUUID, sign } from 'node:crypto'
import { checkNames, textList } from './lib/check.ts'

/** One of the methods of the OAuth registry. Certificates are up to the injected `fetch`. */
export type ClientAuthentication =
  | Readonly<{
      method: 'client_secret_basic' | 'client_secret_post'
      clientId: string
      clientSecret: string
    }>
  | Readonly<{ method: 'tls_client_auth' | 'self_signed_tls_client_auth'; clientId: string }>
  /** An assertion signed with ES256 (RFC 7523); a private P-256 JWK, with `kid` if the issuer wants it. */
  | Readonly<{ method: 'private_key_jwt'; clientId: string; privateKey: object }>

const authenticationNames = new Set(['method', 'clientId', 'clientSecret', 'privateKey'])

/** What to add to a request. */
export type AuthenticationParts = Readonly<{
  headers: Readonly<Record<string, string>>
  parameters: Readonly<Record<string, string>>
}>

/** Makes the function that authenticates one request to `issuer`; `now` in seconds. */
export function createClientAuthentication(
  authentication: ClientAuthentication,
  issuer: string,
  now: () => number,
): () => AuthenticationParts {
  const name = 'introspection.authentication'
  checkNames(name, authentication, authenticationNames)
  const { clientId } = authentication
  textList(`${name}: clientId`, [clientId])
  if ('clientSecret' in authentication) {
    textList(`${name}: clientSecret`, [authentication.clientSecret])
  }
  switch (authentication.method) {
    case 'client_secret_basic': {
      const pair = `${formEncode(clientId)}:${formEncode(authentication.clientSecret)}`
      const authorization = `Basic ${Buffer.from(pair).toString('base64')}`
      return () => ({ headers: { authorization }, parameters: {} })
    }
    case 'client_secret_post': {
      const parameters = { client_id: clientId, client_secret: authentication.clientSecret }
      return () => ({ headers: {}, parameters })
    }
    case 'tls_client_auth':
    case 'self_signed_tls_client_auth':
      return () => ({ headers: {}, parameters: { client_id: clientId } })
    case 'private_key_jwt': {
      const { kid } = authentication.privateKey as { kid?: string }
      const key = createPrivateKey({ format: 'jwk', key: { ...authentication.privateKey } })
      if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
        throw new TypeError('introspection.authentication: privateKey must be a P-256 key')
      }
      return () => ({
        headers: {},
        parameters: {
          client_id: clientId,
          client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
          client_assertion: assertion(key, kid, clientId, issuer, Math.floor(now())),
        },
      })
    }
    default:
      throw new TypeError('introspection.authentication: unknown method')
  }
}

/** RFC 7523 section 3; `aud` is the issuer, so that the assertion is good for no other endpoint. */
function assertion(
  key: KeyObject,
  kid: string | undefined,
  clientId: string,
  issuer: string,
  now: number,
): string {
  const header = { typ: 'JWT', alg: 'ES256', kid }
  const claims = {
    iss: clientId,
    sub: clientId,
    aud: issuer,
    jti: randomUUID(),
    iat: now,
    exp: now + 60,
  }
  const input = `${encode(header)}.${encode(claims)}`
  const signature = sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' })
  return `${input}.${signature.toString('base64url')}`
}

/** RFC 6749 section 2.3.1: form-encoded before Basic joins them with a colon. */
function formEncode(text: string): string {
  return new URLSearchParams({ '': text }).toString().slice(1)
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
