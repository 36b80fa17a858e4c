import { createHash } from 'node:crypto'
import test from 'ava'
import { createIdTokenVerifier, type IdTokenExpectation } from '../../packages/verify/id-token.ts'
import { makeKey, signJws } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'
import { accessToken, issuer, issuerKey, jkt, jwks, start } from '../support/verify/world.ts'

const options = { issuer, clientId: 'rp', jwks, now: () => start * 1000 }
const { verifyIdToken } = createIdTokenVerifier(options)
const expected: IdTokenExpectation = { nonce: 'n', jkt }
const providedId = Buffer.from('a token binding ID')
const tbh = createHash('sha256').update(providedId).digest('base64url')

type Members = Record<string, unknown>

function idToken(claims: Members = {}, header: Members = {}, key = issuerKey): string {
  const payload = { iss: issuer, sub: 'alice', aud: 'rp', nonce: 'n', iat: start, exp: start + 60 }
  return signJws(
    key,
    { alg: key.alg, kid: 'k1', ...header },
    { ...payload, cnf: { jkt }, ...claims },
  )
}

test('accepts an ID token whose key the browser has proven', async (t) => {
  const { claims, methods } = await verifyIdToken(idToken(), expected)
  t.is(claims.sub, 'alice')
  t.deepEqual(methods, ['dpop'])
})

test('accepts an ID token with the Token Binding of the browser', async (t) => {
  const token = idToken({ cnf: { tbh } })
  const { methods } = await verifyIdToken(token, { nonce: 'n', tokenBinding: { providedId } })
  t.deepEqual(methods, ['token-binding'])
  const tokenBinding = { providedId: Buffer.from('another') }
  await refused(t, 'token_binding_mismatch', () =>
    verifyIdToken(token, { ...expected, tokenBinding }),
  )
  await refused(t, 'token_binding_missing', () => verifyIdToken(token, expected))
})

test('accepts an ID token for several clients that was issued to this one', async (t) => {
  await t.notThrowsAsync(verifyIdToken(idToken({ aud: ['rp', 'b'], azp: 'rp' }), expected))
})

test('accepts an unbound ID token only when told to', async (t) => {
  const unbound = idToken({ cnf: undefined })
  await refused(t, 'bearer_refused', () => verifyIdToken(unbound, expected))
  const lax = createIdTokenVerifier({ ...options, allowUnbound: true })
  t.deepEqual((await lax.verifyIdToken(unbound, expected)).methods, [])
  const bound = idToken()
  await refused(t, 'dpop_key_mismatch', () => lax.verifyIdToken(bound, { nonce: 'n' }))
})

const broken: [title: string, code: Parameters<typeof refused>[1], token: () => string][] = [
  ['that is no JWT', 'token_malformed', () => 'x'],
  ['that is too long', 'token_too_large', () => idToken({ pad: 'x'.repeat(20_000) })],
  ['that is an access token', 'token_type', () => accessToken({ aud: 'rp', nonce: 'n' })],
  ['of typ logout+jwt', 'token_type', () => idToken({}, { typ: 'logout+jwt' })],
  ['with crit', 'token_malformed', () => idToken({}, { crit: ['x'] })],
  ['of another issuer', 'token_issuer', () => idToken({ iss: 'https://evil.example' })],
  ['for another client', 'token_audience', () => idToken({ aud: 'b' })],
  ['for several clients', 'token_audience', () => idToken({ aud: ['rp', 'b'] })],
  ['issued to another client', 'token_audience', () => idToken({ azp: 'b' })],
  ['with alg none', 'token_algorithm', () => idToken({}, { alg: 'none' })],
  ['with alg HS256', 'token_algorithm', () => idToken({}, { alg: 'HS256' })],
  ['with a numeric kid', 'token_malformed', () => idToken({}, { kid: 1 })],
  ['by another key', 'token_signature', () => idToken({}, {}, makeKey())],
  ['without sub', 'token_claims', () => idToken({ sub: undefined })],
  ['that has expired', 'token_expired', () => idToken({ exp: start - 10 })],
  ['from the future', 'token_not_yet_valid', () => idToken({ iat: start + 11 })],
  ['of another request', 'id_token_nonce', () => idToken({ nonce: 'm' })],
  ['without nonce', 'id_token_nonce', () => idToken({ nonce: undefined })],
  ['with an unknown cnf', 'confirmation_unknown', () => idToken({ cnf: { jwk: {} } })],
  [
    'with a certificate nobody has',
    'certificate_missing',
    () => idToken({ cnf: { 'x5t#S256': jkt } }),
  ],
]

for (const [title, code, token] of broken) {
  test(`rejects an ID token ${title}`, async (t) => {
    await refused(t, code, () => verifyIdToken(token(), expected))
  })
}

test('rejects an ID token of another key, and a nonce nobody asked for', async (t) => {
  await refused(t, 'dpop_key_mismatch', () => verifyIdToken(idToken(), { ...expected, jkt: tbh }))
  await refused(t, 'dpop_key_mismatch', () => verifyIdToken(idToken(), { nonce: 'n' }))
  await refused(t, 'id_token_nonce', () => verifyIdToken(idToken(), { ...expected, nonce: null }))
})

test('asks how long ago the user signed in', async (t) => {
  const recent = idToken({ auth_time: start - 100 })
  await t.notThrowsAsync(verifyIdToken(recent, { ...expected, maxAge: 90 }))
  const code = 'insufficient_user_authentication'
  await refused(t, code, () => verifyIdToken(recent, { ...expected, maxAge: 89 }))
  await refused(t, code, () => verifyIdToken(idToken(), { ...expected, maxAge: 1000 }))
})

test('refuses to be made without an issuer or a client', (t) => {
  for (const bad of [{ issuer: 'http://a.example' }, { clientId: '' }, { algorithms: ['none'] }]) {
    t.throws(() => createIdTokenVerifier({ ...options, ...bad }), { instanceOf: TypeError })
  }
})
