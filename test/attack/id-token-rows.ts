/** The rows of the attack table in which a relying party is handed an ID token. */
import { VerifyError } from '../../packages/verify/errors.ts'
import { createIdTokenVerifier } from '../../packages/verify/id-token.ts'
import {
  accessToken,
  ath,
  issuer,
  issuerKey,
  jkt,
  jwks,
  start,
} from '../support/verify/fixtures.ts'
import { makeKey, signJws } from '../support/verify/keys.ts'
import type { Result } from './run-table.ts'

type Members = Record<string, unknown>

function idToken(claims: Members = {}, header: Members = {}, key = issuerKey): string {
  const payload = { iss: issuer, sub: 'alice', aud: 'rp', nonce: 'n', iat: start, exp: start + 60 }
  const members = { ...payload, cnf: { jkt }, ...claims }
  return signJws(key, { alg: 'ES256', kid: 'k1', ...header }, members)
}

const rows: readonly [title: string, expected: string, token: () => string][] = [
  ['valid ID token of this browser', 'accepted', () => idToken()],
  ['access token as ID token', 'token_type', () => accessToken({ aud: 'rp', nonce: 'n' })],
  ['ID token of another browser', 'dpop_key_mismatch', () => idToken({ cnf: { jkt: ath('x') } })],
  ['ID token bound to nothing', 'bearer_refused', () => idToken({ cnf: undefined })],
  ['ID token with unknown cnf', 'confirmation_unknown', () => idToken({ cnf: { jwk: {} } })],
  [
    'ID token of another Token Binding',
    'token_binding_mismatch',
    () => idToken({ cnf: { tbh: jkt } }),
  ],
  ['ID token for another client', 'token_audience', () => idToken({ aud: 'other' })],
  ['ID token of another request', 'id_token_nonce', () => idToken({ nonce: 'm' })],
  ['ID token with alg none', 'token_algorithm', () => idToken({}, { alg: 'none' })],
  ['ID token signed by a thief', 'token_signature', () => idToken({}, {}, makeKey())],
]

export async function runIdTokenRows(): Promise<Result[]> {
  const { verifyIdToken } = createIdTokenVerifier({
    issuer,
    clientId: 'rp',
    jwks,
    now: () => start * 1000,
  })
  const tokenBinding = { providedId: Buffer.from('the Token Binding ID') }
  const results: Result[] = []
  for (const [title, expected, token] of rows) {
    const row = { adapter: 'id-token', case: title, expected }
    try {
      await verifyIdToken(token(), { nonce: 'n', jkt, tokenBinding })
      results.push({ ...row, got: 'accepted', status: 200, error: null })
    } catch (error) {
      if (!(error instanceof VerifyError)) throw error
      const { code, status } = error
      results.push({ ...row, got: code, status, error: error.error ?? null })
    }
  }
  return results
}
