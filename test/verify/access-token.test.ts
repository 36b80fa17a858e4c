import test from 'ava'
import { encode, makeKey, signJws } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'
import {
  accessToken,
  audience,
  dpopRequest,
  issuerKey,
  jkt,
  jwks,
  start,
  verifierWith,
} from '../support/verify/world.ts'

const broken: [title: string, code: Parameters<typeof refused>[1], token: () => string][] = [
  ['that is no JWT', 'token_malformed', () => 'abc'],
  ['with an invalid character', 'token_malformed', () => accessToken().replace('.', '.*')],
  ['with the same claim twice', 'token_malformed', () => rawPayload('{"iss":"a", "iss":"b"}')],
  ['of 20,000 characters', 'token_too_large', () => accessToken({ pad: 'x'.repeat(20_000) })],
  ['without typ', 'token_type', () => accessToken({}, { typ: undefined })],
  ['of typ JWT, as an ID token is', 'token_type', () => accessToken({}, { typ: 'JWT' })],
  ['of typ dpop+jwt', 'token_type', () => accessToken({}, { typ: 'dpop+jwt' })],
  ['with crit', 'token_malformed', () => accessToken({}, { crit: ['b64'], b64: true })],
  ['of another issuer', 'token_issuer', () => accessToken({ iss: 'https://evil.example' })],
  ['without issuer', 'token_issuer', () => accessToken({ iss: undefined })],
  ['for another audience', 'token_audience', () => accessToken({ aud: 'https://b.example' })],
  ['for a longer audience', 'token_audience', () => accessToken({ aud: `${audience}/` })],
  ['for other audiences', 'token_audience', () => accessToken({ aud: ['a', 'b'] })],
  ['without audience', 'token_audience', () => accessToken({ aud: undefined })],
  ['with alg none', 'token_algorithm', () => accessToken({}, { alg: 'none' })],
  ['with alg HS256', 'token_algorithm', () => accessToken({}, { alg: 'HS256' })],
  ['with an alg its key is not for', 'token_key', () => accessToken({}, { alg: 'RS256' })],
  ['with an unknown kid', 'token_key', () => accessToken({}, { kid: 'k2' })],
  ['with a numeric kid', 'token_malformed', () => accessToken({}, { kid: 1 })],
  ['by another key', 'token_signature', () => accessToken({}, {}, makeKey())],
  ['by the key in its own header', 'token_signature', () => selfSigned()],
  ['that has expired', 'token_expired', () => accessToken({ exp: start - 10 })],
  ['that is not valid yet', 'token_not_yet_valid', () => accessToken({ nbf: start + 11 })],
  ['without exp', 'token_claims', () => accessToken({ exp: undefined })],
  ['with an exp text', 'token_claims', () => accessToken({ exp: `${start + 600}` })],
  ['with an nbf text', 'token_claims', () => accessToken({ nbf: `${start}` })],
  ['without iat', 'token_claims', () => accessToken({ iat: undefined })],
  ['without sub', 'token_claims', () => accessToken({ sub: undefined })],
  ['without client_id', 'token_claims', () => accessToken({ client_id: undefined })],
  ['without jti', 'token_claims', () => accessToken({ jti: undefined })],
]

for (const [title, code, make] of broken) {
  test(`rejects a token ${title}`, async (t) => {
    await refused(t, code, () => verifierWith().verify(dpopRequest(make())))
  })
}

for (const typ of ['at+JWT', 'application/at+jwt']) {
  test(`accepts typ ${typ}`, async (t) => {
    await t.notThrowsAsync(verifierWith().verify(dpopRequest(accessToken({}, { typ }))))
  })
}

test('accepts an audience array that names this resource', async (t) => {
  const token = accessToken({ aud: ['https://b.example', audience] })
  await t.notThrowsAsync(verifierWith().verify(dpopRequest(token)))
})

test('accepts a token within the clock tolerance', async (t) => {
  const token = accessToken({ exp: start - 9, nbf: start + 10 })
  await t.notThrowsAsync(verifierWith().verify(dpopRequest(token)))
})

test('checks the times of a token it knows again', async (t) => {
  let now = start
  const verifier = verifierWith({ now: () => now * 1000 })
  const token = accessToken({ exp: start + 5 })
  await verifier.verify(dpopRequest(token))
  now = start + 15
  await refused(t, 'token_expired', () => verifier.verify(dpopRequest(token)))
})

test('gives nobody the means to change the claims of a cached token', async (t) => {
  const { claims } = await verifierWith().verify(dpopRequest())
  t.throws(() => Object.assign(claims.cnf as object, { jkt: 'x' }), { instanceOf: TypeError })
})

test('guesses no key when a token names none and two would do', async (t) => {
  const token = accessToken({}, { kid: undefined })
  await t.notThrowsAsync(verifierWith().verify(dpopRequest(token)))
  const two = { keys: [...jwks.keys, { ...makeKey().publicJwk, kid: 'k2' }] }
  await refused(t, 'token_key', () => verifierWith({ jwks: two }).verify(dpopRequest(token)))
})

for (const [title, member] of [
  ['an encryption key', { use: 'enc' }],
  ['a key for other operations', { key_ops: ['sign'] }],
  ['a key for another algorithm', { alg: 'ES384' }],
  ['a published private key', { d: issuerKey.privateJwk.d }],
] as const) {
  test(`verifies no token with ${title}`, async (t) => {
    const keys = [{ ...jwks.keys[0], ...member }]
    await refused(t, 'token_key', () => verifierWith({ jwks: { keys } }).verify(dpopRequest()))
  })
}

for (const alg of ['ES384', 'EdDSA', 'RS256', 'PS256']) {
  test(`accepts a token signed with ${alg}`, async (t) => {
    const key = makeKey(alg)
    const verifier = verifierWith({ jwks: { keys: [{ ...key.publicJwk, kid: 'k1' }] } })
    await t.notThrowsAsync(verifier.verify(dpopRequest(accessToken({}, {}, key))))
  })
}

function rawPayload(payload: string): string {
  return signJws(issuerKey, { typ: 'at+jwt', alg: 'ES256', kid: 'k1' }, payload)
}

function selfSigned(): string {
  const key = makeKey()
  const jku = 'https://evil.example/jwks'
  const x5c = [encode('certificate')]
  return accessToken({ cnf: { jkt } }, { jwk: key.publicJwk, jku, x5u: jku, x5c }, key)
}
