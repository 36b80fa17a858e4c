/** JWT access tokens (RFC 9068) of the configured issuers, and the cache of those verified. */
import type { KeyObject } from 'node:crypto'
import { type Confirmation, parseConfirmation } from './confirmation.ts'
import { VerifyError } from './errors.ts'
import type { Jwks } from './jwks.ts'
import { decodeBase64url } from './lib/base64url.ts'
import { deepFreeze } from './lib/deep-freeze.ts'
import { parseJsonObject } from './lib/json.ts'
import { splitCompactJws } from './lib/jws.ts'
import { RecentMap } from './lib/recent-map.ts'
import { verifySignature } from './lib/signature.ts'

/** The claims of an access token: those RFC 9068 section 2.2 requires, and whatever else is there. */
export type AccessTokenClaims = Readonly<{
  iss: string
  sub: string
  aud: string | readonly string[]
  client_id: string
  /** Seconds since the epoch. */
  exp: number
  /** Seconds since the epoch. */
  iat: number
  jti: string
  /** Space-delimited. */
  scope?: string
  [claim: string]: unknown
}>

/** An access token that was found genuine; not yet that the sender may use it. */
export type AccessToken = Readonly<{
  claims: AccessTokenClaims
  issuer: string
  /** How the token was checked. */
  format: 'jwt' | 'introspection'
  /** What has to be proven; empty for a bearer token. */
  confirmations: readonly Confirmation[]
}>

/** How the tokens of one issuer are checked. */
export type IssuerPolicy = Readonly<{
  issuer: string
  audience: readonly string[]
  algorithms: readonly string[]
  harmlessMembers: readonly string[]
  jwks: Jwks
}>

/** Times in seconds. */
export type AccessTokenOptions = Readonly<{
  issuers: readonly IssuerPolicy[]
  now: () => number
  clockTolerance: number
  /** For how long a verified token is trusted without looking at its signature again. */
  cacheSeconds: number
  cacheSize: number
}>

/** Verifies access tokens and remembers them. */
export type AccessTokenVerifier = Readonly<{
  /** `hash` is the base64url SHA-256 of the token, which is also what a DPoP proof's `ath` holds. */
  verify(token: string, hash: string): AccessToken | Promise<AccessToken>
}>

/** A token of 16 KiB would not fit the header of most servers. */
const maxTokenLength = 16_384

type Cached = Readonly<{ token: AccessToken; until: number }>

/** Makes an {@link AccessTokenVerifier}. */
export function createAccessTokenVerifier(options: AccessTokenOptions): AccessTokenVerifier {
  const { issuers, now, clockTolerance, cacheSeconds, cacheSize } = options
  // Keyed by hash: a heap dump of the cache holds no token.
  const cache = new RecentMap<Cached>(cacheSize)

  async function verifyWithKey(jwt: ParsedJwt, hash: string, key: Promise<KeyObject>) {
    return finish(jwt, hash, await key)
  }

  function finish(jwt: ParsedJwt, hash: string, key: KeyObject): AccessToken {
    if (!verifySignature(jwt.alg, key, jwt.signed, jwt.signature)) {
      throw new VerifyError('token_signature', 'Access token signature does not verify')
    }
    const claims = requiredClaims(jwt.claims)
    checkTimes(claims, now(), clockTolerance)
    const token: AccessToken = Object.freeze({
      claims: deepFreeze(claims),
      issuer: jwt.policy.issuer,
      format: 'jwt',
      confirmations: parseConfirmation(claims.cnf, jwt.policy.harmlessMembers),
    })
    cache.set(hash, Object.freeze({ token, until: now() + cacheSeconds }))
    return token
  }

  return Object.freeze({
    verify(token: string, hash: string): AccessToken | Promise<AccessToken> {
      const cached = cache.get(hash)
      if (cached !== undefined && now() < cached.until) {
        checkTimes(cached.token.claims, now(), clockTolerance)
        return cached.token
      }
      const jwt = parseJwt(token, issuers)
      const key = jwt.policy.jwks.find(jwt.alg, jwt.kid)
      return key instanceof Promise ? verifyWithKey(jwt, hash, key) : finish(jwt, hash, key)
    },
  })
}

type ParsedJwt = Readonly<{
  policy: IssuerPolicy
  alg: string
  kid: string | undefined
  claims: Record<string, unknown>
  signed: Buffer
  signature: Buffer
}>

/** RFC 9068 section 4, in its order, up to the signature. */
function parseJwt(token: string, issuers: readonly IssuerPolicy[]): ParsedJwt {
  if (token.length > maxTokenLength) {
    throw new VerifyError('token_too_large', 'Access token is too long')
  }
  const jws = splitCompactJws(token)
  const header = jws && decodePart(jws.header)
  const claims = jws && decodePart(jws.payload)
  const signature = jws && decodeBase64url(jws.signature)
  if (!jws || !header || !claims || !signature) {
    throw new VerifyError('token_malformed', 'Access token is not a JWT')
  }

  // An ID token, a logout token or a DPoP proof of the same issuer is no access token.
  const { typ, alg, kid } = header
  if (typeof typ !== 'string' || !/^(?:application\/)?at\+jwt$/i.test(typ)) {
    throw new VerifyError('token_type', 'Access token typ must be at+jwt')
  }
  // RFC 7515 section 4.1.11: an extension that must be understood, and is not. The members jku,
  // jwk, x5u and x5c need not be understood: keys come from the issuer's configuration alone.
  if (header.crit !== undefined) {
    throw new VerifyError('token_malformed', 'Access token has critical extensions')
  }

  const policy = issuers.find(({ issuer }) => issuer === claims.iss)
  if (policy === undefined) {
    throw new VerifyError('token_issuer', 'Access token is from an unknown issuer')
  }

  const audiences = Array.isArray(claims.aud) ? claims.aud : [claims.aud]
  if (!policy.audience.some((audience) => audiences.includes(audience))) {
    throw new VerifyError('token_audience', 'Access token is for another audience')
  }

  if (typeof alg !== 'string' || !policy.algorithms.includes(alg)) {
    throw new VerifyError('token_algorithm', 'Access token alg is not accepted')
  }
  if (kid !== undefined && typeof kid !== 'string') {
    throw new VerifyError('token_malformed', 'Access token kid must be a string')
  }
  const signed = Buffer.from(jws.signingInput, 'latin1')
  return { policy, alg, kid, claims, signed, signature }
}

/** RFC 9068 section 2.2. */
function requiredClaims(claims: Record<string, unknown>): AccessTokenClaims {
  for (const name of ['sub', 'client_id', 'jti'] as const) {
    if (typeof claims[name] !== 'string') {
      throw new VerifyError('token_claims', `Access token ${name} must be a string`)
    }
  }
  for (const name of ['exp', 'iat'] as const) {
    if (typeof claims[name] !== 'number' || !Number.isFinite(claims[name])) {
      throw new VerifyError('token_claims', `Access token ${name} must be a number`)
    }
  }
  if (claims.nbf !== undefined && typeof claims.nbf !== 'number') {
    throw new VerifyError('token_claims', 'Access token nbf must be a number')
  }
  return claims as AccessTokenClaims
}

function checkTimes(claims: AccessTokenClaims, now: number, tolerance: number): void {
  if (now >= claims.exp + tolerance) {
    throw new VerifyError('token_expired', 'Access token has expired')
  }
  if (typeof claims.nbf === 'number' && now < claims.nbf - tolerance) {
    throw new VerifyError('token_not_yet_valid', 'Access token is not valid yet')
  }
}

function decodePart(encoded: string): Record<string, unknown> | undefined {
  const bytes = decodeBase64url(encoded)
  return bytes && parseJsonObject(bytes)
}
