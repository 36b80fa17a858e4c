import {
  accessToken,
  ath,
  audience,
  dpopProof,
  issuer,
  jwks,
} from '../../support/verify/fixtures.ts'

const now = () => Math.floor(Date.now() / 1000)

export { ath, audience, issuer, jwks }

/** A token that is valid while the bench runs. */
export function freshToken(claims: Record<string, unknown> = {}): string {
  return flat(accessToken({ iat: now(), exp: now() + 3600, ...claims }))
}

export function freshProof(token: string): string {
  return flat(dpopProof(token, { iat: now() }))
}

/**
 * Header fields as a browser or a service sends them. A parser's texts are still in the caches when
 * a verifier reads them; a token that many requests share is made once, so that it is here as well.
 */
export function rawHeaders(authorization: string, proof?: string): string[] {
  return [
    ...['Host', 'api.example', 'User-Agent', 'bench/1.0', 'Accept', 'application/json'],
    ...['Authorization', authorization],
    ...(proof === undefined ? [] : ['DPoP', proof]),
    ...['Accept-Encoding', 'gzip, deflate, br', 'Connection', 'keep-alive'],
  ]
}

export function authorizationFor(token: string, scheme: 'Bearer' | 'DPoP'): string {
  return flat(`${scheme} ${token}`)
}

/** A text in one piece, as a parser gives it, not a rope of what it was put together from. */
function flat(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1')
}
