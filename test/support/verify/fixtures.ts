import { createHash, randomUUID } from 'node:crypto'
import { calculateJwkThumbprint } from 'jose'
import type { VerifierOptions } from '../../../packages/verify/options.ts'
import {
  createVerifier,
  type Verifier,
  type VerifyRequest,
} from '../../../packages/verify/verifier.ts'
import { makeKey, signJws, type TestKey } from './keys.ts'

export const issuer = 'https://as.example'
export const audience = 'https://api.example'
export const url = '/notes?limit=3'
export const htu = 'https://api.example/notes'
/** Seconds since the epoch; the clock of every test stands still here. */
export const start = 1_800_000_000

export const issuerKey = makeKey()
export const clientKey = makeKey()
export const jkt = await calculateJwkThumbprint(clientKey.publicJwk)
export const jwks = { keys: [{ ...issuerKey.publicJwk, kid: 'k1', alg: 'ES256', use: 'sig' }] }

type Claims = Record<string, unknown>

/** A valid DPoP-bound access token, but for the overrides; `undefined` removes a member. */
export function accessToken(claims: Claims = {}, header: Claims = {}, key = issuerKey): string {
  return signJws(
    key,
    { typ: 'at+jwt', alg: key.alg, kid: 'k1', ...header },
    {
      iss: issuer,
      sub: 'alice',
      aud: audience,
      client_id: 'app',
      iat: start - 10,
      exp: start + 600,
      jti: randomUUID(),
      scope: 'notes:read',
      cnf: { jkt },
      ...claims,
    },
  )
}

export function ath(token: string): string {
  return createHash('sha256').update(token).digest('base64url')
}

/** A valid proof for a token, but for the overrides. */
export function dpopProof(
  token: string,
  claims: Claims = {},
  header: Claims = {},
  key: TestKey = clientKey,
): string {
  return signJws(
    key,
    { typ: 'dpop+jwt', alg: key.alg, jwk: key.publicJwk, ...header },
    { jti: randomUUID(), htm: 'GET', htu, iat: start, ath: ath(token), ...claims },
  )
}

/** A valid request with a token and its proof. */
export function dpopRequest(token = accessToken(), proof = dpopProof(token)): VerifyRequest {
  return { method: 'GET', url, headers: ['Authorization', `DPoP ${token}`, 'DPoP', proof] }
}

export function bearerRequest(token: string): VerifyRequest {
  return { method: 'GET', url, headers: ['Authorization', `Bearer ${token}`] }
}

export function verifierWith(options: Partial<VerifierOptions> = {}): Verifier {
  return createVerifier({ issuer, audience, jwks, now: () => start * 1000, ...options })
}
