import type { SigningAlgorithm } from '../config/signing-algorithms.ts'
import type { SignJwt } from '../token-endpoint/issue.ts'

/** Seconds, as short as section 4 of Back-Channel Logout asks for. */
const lifetime = 120

export interface LogoutTokenOptions {
  readonly issuer: string
  readonly clientId: string
  readonly accountId: string
  readonly sid: string
  readonly algorithm: SigningAlgorithm
  readonly jti: string
  /** Seconds since the epoch. */
  readonly now: number
}

/**
 * A logout token (OpenID Connect Back-Channel Logout 1.0 section 2.4), signed as the client's ID
 * tokens are. It has no nonce: an ID token cannot be mistaken for it, nor it for one.
 */
export async function makeLogoutToken(
  { issuer, clientId, accountId, sid, algorithm, jti, now }: LogoutTokenOptions,
  sign: SignJwt,
): Promise<string> {
  return sign(algorithm, 'logout+jwt', {
    iss: issuer,
    sub: accountId,
    aud: clientId,
    iat: now,
    exp: now + lifetime,
    jti,
    sid,
    events: { 'http://schemas.openid.net/event/backchannel-logout': {} },
  })
}
