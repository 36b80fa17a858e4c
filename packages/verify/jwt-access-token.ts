/** JWT access tokens by RFC 9068. */
import type { AccessTokenClaims, IssuerPolicy } from './access-token.ts'
import { VerifyError } from './errors.ts'
import type { ParsedJwt } from './lib/jwt.ts'
import { verifySignature } from './lib/signature.ts'

/**
 * Verifies a JWT access token by RFC 9068 section 4, in its order. `encrypted` says whether it came
 * inside a JWE.
 *
 * It does NOT look at times, which are checked again each time the token is used, and NOT at `cnf`,
 * of which RFC 9068 says nothing.
 */
export async function verifyJwtAccessToken(
  jwt: ParsedJwt,
  policy: IssuerPolicy | undefined,
  encrypted: boolean,
): Promise<AccessTokenClaims> {
  // An ID token, a logout token or a DPoP proof of the same issuer is no access token.
  const { typ, alg, kid, crit } = jwt.header
  if (typeof typ !== 'string' || !/^(?:application\/)?at\+jwt$/i.test(typ)) {
    throw new VerifyError('token_type', 'Access token typ must be at+jwt')
  }
  // RFC 7515 section 4.1.11: an extension that must be understood, and is not. The members jku,
  // jwk, x5u and x5c need not be understood: keys come from the issuer's configuration alone.
  if (crit !== undefined) {
    throw new VerifyError('token_malformed', 'Access token has critical extensions')
  }

  if (policy === undefined) {
    throw new VerifyError('token_issuer', 'Access token is from an unknown issuer')
  }
  if (policy.requireEncryption && !encrypted) {
    throw new VerifyError('token_encryption', 'Access token must be encrypted')
  }

  if (!namesAudience(jwt.claims.aud, policy.audience)) {
    throw new VerifyError('token_audience', 'Access token is for another audience')
  }

  if (typeof alg !== 'string' || !policy.algorithms.includes(alg)) {
    throw new VerifyError('token_algorithm', 'Access token alg is not accepted')
  }
  if (kid !== undefined && typeof kid !== 'string') {
    throw new VerifyError('token_malformed', 'Access token kid must be a string')
  }
  const found = policy.jwks.find(alg, kid)
  const key = found instanceof Promise ? await found : found
  if (!verifySignature(alg, key, jwt.input, jwt.signature)) {
    throw new VerifyError('token_signature', 'Access token signature does not verify')
  }

  // Section 2.2: all of these are required.
  const { claims } = jwt
  for (const name of ['sub', 'client_id', 'jti'] as const) {
    if (typeof claims[name] !== 'string') {
      throw new VerifyError('token_claims', `Access token ${name} must be a string`)
    }
  }
  for (const name of ['exp', 'iat'] as const) {
    if (!Number.isFinite(claims[name])) {
      throw new VerifyError('token_claims', `Access token ${name} must be a number`)
    }
  }
  checkOptionalClaims(claims)
  return claims as AccessTokenClaims
}

/** Whether `aud`, a string or an array, has one of the identifiers of this resource. */
export function namesAudience(aud: unknown, audience: readonly string[]): boolean {
  const named: readonly unknown[] = Array.isArray(aud) ? aud : [aud]
  return audience.some((identifier) => named.includes(identifier))
}

/** What is there must be of its type: a time that cannot be compared would never have passed. */
export function checkOptionalClaims(claims: Record<string, unknown>): void {
  for (const name of ['exp', 'iat', 'nbf'] as const) {
    // 1e999 is Infinity to JSON.parse: a token that never expires.
    if (claims[name] !== undefined && !Number.isFinite(claims[name])) {
      throw new VerifyError('token_claims', `Access token ${name} must be a number`)
    }
  }
  for (const name of ['sub', 'client_id', 'jti', 'scope'] as const) {
    if (claims[name] !== undefined && typeof claims[name] !== 'string') {
      throw new VerifyError('token_claims', `Access token ${name} must be a string`)
    }
  }
}
