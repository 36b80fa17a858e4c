import { createHash } from 'node:crypto'
import { inspect } from 'node:util'
import test from 'ava'
import { type RequestBody, readCredential } from '../../packages/verify/credentials.ts'
import { createIdTokenVerifier, type IdTokenExpectation } from '../../packages/verify/id-token.ts'
import type { VerifierOptions } from '../../packages/verify/options.ts'
import { createVerifier } from '../../packages/verify/verifier.ts'
import {
  accessToken,
  audience,
  bearerRequest,
  dpopProof,
  dpopRequest,
  issuer,
  issuerKey,
  jkt,
  jwks,
  start,
  url,
  verifierWith,
} from '../support/verify/fixtures.ts'
import { encode, makeKey, signJws } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'

test('accepts a DPoP-bound token with its proof', async (t) => {
  const verified = await verifierWith().verify(dpopRequest())
  t.is(verified.claims.sub, 'alice')
  t.deepEqual(verified.methods, ['dpop'])
  t.is(verified.token.issuer, issuer)
  t.is(verified.token.format, 'jwt')
  t.is(verified.location, 'header')
  t.is(verified.proof?.jkt, jkt)
  t.true(Object.isFrozen(verified) && Object.isFrozen(verified.claims))
})

test('knows a token again, and checks each new proof', async (t) => {
  const verifier = verifierWith()
  const token = accessToken()
  const first = await verifier.verify(dpopRequest(token))
  const second = await verifier.verify(dpopRequest(token))
  t.is(first.token, second.token)
  const stolen = dpopRequest(token, dpopProof(token, {}, {}, makeKey()))
  await refused(t, 'dpop_key_mismatch', () => verifier.verify(stolen))
})

test('rejects the same proof twice', async (t) => {
  const verifier = verifierWith()
  const request = dpopRequest()
  await verifier.verify(request)
  await refused(t, 'dpop_replayed', () => verifier.verify(request))
})

test('accepts one of sixteen concurrent uses of a proof', async (t) => {
  const verifier = verifierWith()
  const request = dpopRequest()
  const uses = Array.from({ length: 16 }, () => verifier.verify(request))
  const outcomes = await Promise.allSettled(uses)
  t.is(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
})

test('does not use up a proof in a request that is refused for another reason', async (t) => {
  const token = accessToken({ cnf: { jkt, 'x5t#S256': jkt } })
  const request = dpopRequest(token)
  const verifier = verifierWith()
  await refused(t, 'certificate_missing', () => verifier.verify(request))
  const verified = await verifier.verify({ ...request, certificate: { thumbprint: jkt } })
  t.deepEqual(verified.methods, ['dpop', 'mtls'])
})

test('ignores the host a request names', async (t) => {
  const request = { ...dpopRequest(), url: `http://backend.internal:8080${url}` }
  await t.notThrowsAsync(verifierWith().verify(request))
})

test('takes the public origin from configuration', async (t) => {
  const verifier = verifierWith({ publicOrigin: 'https://www.example' })
  await refused(t, 'dpop_uri', () => verifier.verify(dpopRequest()))
  const token = accessToken()
  const proof = dpopProof(token, { htu: 'https://www.example/notes' })
  await t.notThrowsAsync(verifier.verify(dpopRequest(token, proof)))
})

test('rejects a DPoP-bound token as a bearer token, with and without a valid proof', async (t) => {
  const token = accessToken()
  const verifier = verifierWith({ allowBearer: true })
  await refused(t, 'dpop_token_leaked', () => verifier.verify(bearerRequest(token)))
  const headers = ['Authorization', `Bearer ${token}`, 'DPoP', dpopProof(token)]
  await refused(t, 'dpop_token_leaked', () => verifier.verify({ method: 'GET', url, headers }))
  const query = { method: 'GET', url: `/notes?access_token=${token}`, headers: headers.slice(2) }
  await refused(t, 'dpop_token_leaked', () => verifier.verify(query))
})

test('rejects a token in a query', async (t) => {
  const token = accessToken({ cnf: undefined })
  const request = { method: 'GET', url: `/notes?access_token=${token}`, headers: [] }
  const verifier = verifierWith({ allowBearer: true })
  const error = await refused(t, 'credentials_location', () => verifier.verify(request))
  t.is(error.status, 400)
})

test('rejects a bearer token unless told otherwise', async (t) => {
  const request = bearerRequest(accessToken({ cnf: undefined }))
  await refused(t, 'bearer_refused', () => verifierWith().verify(request))
  const { methods } = await verifierWith({ allowBearer: true }).verify(request)
  t.deepEqual(methods, [])
})

test('rejects an unbound token in the DPoP scheme', async (t) => {
  const token = accessToken({ cnf: undefined })
  const verifier = verifierWith({ allowBearer: true })
  await refused(t, 'scheme_mismatch', () => verifier.verify(dpopRequest(token)))
})

test('rejects a DPoP-bound token without a proof, and with two', async (t) => {
  const token = accessToken()
  const { headers } = dpopRequest(token)
  const [, , ...proof] = headers as string[]
  const without = { method: 'GET', url, headers: (headers as string[]).slice(0, 2) }
  await refused(t, 'dpop_missing', () => verifierWith().verify(without))
  const two = { method: 'GET', url, headers: [...(headers as string[]), ...proof] }
  await refused(t, 'dpop_multiple', () => verifierWith().verify(two))
})

test('rejects a binding method that policy excludes', async (t) => {
  const verifier = verifierWith({ methods: ['mtls'] })
  await refused(t, 'confirmation_method', () => verifier.verify(dpopRequest()))
})

test('refuses when the replay store is full or fails', async (t) => {
  const full = { shared: true, consume: () => 'full' as const }
  const failing = { shared: true, consume: () => Promise.reject(new Error('down')) }
  const error = await refused(t, 'replay_store_full', () =>
    verifierWith({ replay: full }).verify(dpopRequest()),
  )
  t.is(error.status, 503)
  await refused(t, 'replay_store_unavailable', () =>
    verifierWith({ replay: failing }).verify(dpopRequest()),
  )
})

test('keeps a mark for as long as the proof would be accepted', async (t) => {
  let now = start
  const verifier = verifierWith({ now: () => now * 1000 })
  const token = accessToken()
  const request = dpopRequest(token, dpopProof(token, { iat: start + 10 }))
  await verifier.verify(request)
  now = start + 80
  await refused(t, 'dpop_replayed', () => verifier.verify(request))
  now = start + 81
  await refused(t, 'dpop_expired', () => verifier.verify(request))
})

test('challenges with both schemes and no error when no credentials came', async (t) => {
  const algorithms = ['ES256', 'EdDSA']
  const verifier = verifierWith({ dpop: { algorithms }, realm: 'notes' })
  const error = await refused(t, 'credentials_missing', () =>
    verifier.verify({ method: 'GET', url, headers: [] }),
  )
  t.is(error.status, 401)
  t.deepEqual(error.challenges, ['Bearer realm="notes"', 'DPoP realm="notes", algs="ES256 EdDSA"'])
})

test('challenges with the error in the scheme that was used', async (t) => {
  const verifier = verifierWith({ dpop: { algorithms: ['ES256'] } })
  const token = accessToken()
  const leaked = await refused(t, 'dpop_token_leaked', () => verifier.verify(bearerRequest(token)))
  t.deepEqual(leaked.challenges, [
    'Bearer error="invalid_token", error_description="DPoP-bound access token sent without DPoP scheme"',
    'DPoP algs="ES256"',
  ])
  const proof = dpopProof(token, { htm: 'POST' })
  const wrong = await refused(t, 'dpop_method', () => verifier.verify(dpopRequest(token, proof)))
  t.deepEqual(wrong.challenges, [
    'Bearer',
    'DPoP error="invalid_dpop_proof", error_description="DPoP proof htm mismatch", algs="ES256"',
  ])
})

test('offers no DPoP where it is not accepted', async (t) => {
  const verifier = verifierWith({ methods: ['mtls'] })
  const error = await refused(t, 'credentials_missing', () =>
    verifier.verify({ method: 'GET', url, headers: [] }),
  )
  t.deepEqual(error.challenges, ['Bearer'])
})

test('offers only DPoP where nothing else is accepted', async (t) => {
  const verifier = verifierWith({ methods: ['dpop'], dpop: { algorithms: ['ES256'] } })
  const error = await refused(t, 'dpop_token_leaked', () =>
    verifier.verify(bearerRequest(accessToken())),
  )
  t.deepEqual(error.challenges, [
    'DPoP error="invalid_token", error_description="DPoP-bound access token sent without DPoP scheme", algs="ES256"',
  ])
})

const asking = (each: string) => ({
  issuer: each,
  introspection: { authentication: { method: 'tls_client_auth', clientId: 'a' } },
})
const contradictions: [option: string, options: Record<string, unknown>][] = [
  ['audience', { audience: undefined }],
  ['audience', { audience: [] }],
  ['issuer', { issuer: 'http://as.example' }],
  ['issuer', { issuer: undefined }],
  ['issuers', { issuers: [{ issuer }] }],
  ['issuers', { issuer: undefined, issuers: [] }],
  ['jwksUri', { jwksUri: 'https://as.example/jwks' }],
  ['publicOrigin', { audience: 'notes' }],
  ['publicOrigin', { publicOrigin: 'https://api.example/path' }],
  ['publicOrigin', { publicOrigin: 'api' }],
  ['publicOrigin', { publicOrigin: 'ws://api.example' }],
  ['issuers must be an array', { issuer: undefined, issuers: 'a' }],
  [
    'issuers: the same',
    {
      issuer: undefined,
      issuers: [
        { issuer, jwks },
        { issuer, jwks },
      ],
    },
  ],
  ['publicPaths', { publicPaths: { '/': ['/x'] } }],
  ['methods', { methods: new Set(['dpop']) }],
  ['introspection', { issuer: undefined, issuers: [asking(issuer), asking('https://b.example')] }],
  ['methods', { methods: ['cookie'] }],
  ['methods', { methods: [] }],
  ['replicas', { replicas: 2 }],
  ['clockTolerance', { clockTolerance: -1 }],
  ['dpop.algorithms', { dpop: { algorithms: ['HS256'] } }],
  ['algorithms', { algorithms: ['none'] }],
  ['dpop.maxAge', { dpop: { maxAge: Number.NaN } }],
  ['dpop.clockTolerance', { dpop: { clockTolerance: -1 } }],
]

for (const [option, options] of contradictions) {
  test(`refuses to be made with ${inspect(options)}`, (t) => {
    const all = { issuer, audience, jwks, ...options } as VerifierOptions
    const error = t.throws(() => createVerifier(all), { instanceOf: TypeError })
    t.true(error?.message.includes(option), error?.message)
  })
}

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
  ['with a list of scopes', 'token_claims', () => accessToken({ scope: ['a'] })],
]

for (const [title, code, make] of broken) {
  test(`rejects a token ${title}`, async (t) => {
    await refused(t, code, () => verifierWith().verify(dpopRequest(make())))
  })
}

test('rejects a token by an algorithm that its key is not for, though the key names none', async (t) => {
  const { alg: _, ...key } = jwks.keys[0] as Record<string, unknown>
  const verifier = verifierWith({ jwks: { keys: [key] } })
  await t.notThrowsAsync(verifier.verify(dpopRequest()))
  const token = accessToken({}, { alg: 'RS256' })
  await refused(t, 'token_key', () => verifier.verify(dpopRequest(token)))
})

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

const options = { issuer, clientId: 'rp', jwks, now: () => start * 1000 }
const { verifyIdToken } = createIdTokenVerifier(options)
const expected: IdTokenExpectation = { nonce: 'n', jkt }
const providedId = Buffer.from('a token binding ID')
const tbh = createHash('sha256').update(providedId).digest('base64url')

type Members = Record<string, unknown>

/** An ID token of which some claims are JSON that no value is written as. */
function withClaims(json: string): string {
  const claims = { iss: issuer, sub: 'alice', aud: 'rp', nonce: 'n', iat: start, cnf: { jkt } }
  const payload = `${JSON.stringify(claims).slice(0, -1)},${json}}`
  return signJws(issuerKey, { alg: issuerKey.alg, kid: 'k1' }, payload)
}

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

test('accepts an ID token without a nonce where none was sent', async (t) => {
  await t.notThrowsAsync(verifyIdToken(idToken({ nonce: undefined }), { ...expected, nonce: null }))
})

test('accepts an ID token for several clients that was issued to this one', async (t) => {
  await t.notThrowsAsync(verifyIdToken(idToken({ aud: ['rp', 'b'], azp: 'rp' }), expected))
})

test('accepts an unbound ID token only where the option allows it', async (t) => {
  const unbound = idToken({ cnf: undefined })
  await refused(t, 'bearer_refused', () => verifyIdToken(unbound, expected))
  const lax = createIdTokenVerifier({ ...options, allowUnbound: true })
  t.deepEqual((await lax.verifyIdToken(unbound, expected)).methods, [])
  const bound = idToken()
  await refused(t, 'dpop_key_mismatch', () => lax.verifyIdToken(bound, { nonce: 'n' }))
})

const idTokenBroken: [title: string, code: Parameters<typeof refused>[1], token: () => string][] = [
  ['that is no JWT', 'token_malformed', () => 'x'],
  ['that is no text', 'token_malformed', () => 5 as never],
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
  ['with an exp text', 'token_claims', () => idToken({ exp: `${start + 60}` })],
  ['that never expires', 'token_claims', () => withClaims('"exp":1e999')],
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

for (const [title, code, token] of idTokenBroken) {
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

const form = ['Content-Type', 'application/x-www-form-urlencoded']

function get(headers: Parameters<typeof readCredential>[0]['headers'], url = '/') {
  return readCredential({ method: 'GET', url, headers })
}

function post(body: RequestBody, headers: string[] = form, method = 'POST') {
  return readCredential({ method, url: '/', headers, body })
}

const bearer = { token: 'abc', scheme: 'Bearer', location: 'header' } as const

test('reads the Authorization header in any case and form', (t) => {
  t.deepEqual(get(['authorization', 'Bearer abc']), bearer)
  t.deepEqual(get(['AUTHORIZATION', 'bearer   abc']), bearer)
  t.deepEqual(get({ authorization: ['BEARER abc'] }), bearer)
  t.deepEqual(get({ host: ['a'], authorization: ['Bearer abc'], cookie: undefined }), bearer)
  t.deepEqual(get({ authorization: undefined, Authorization: ['Bearer abc'] }), bearer)
  t.deepEqual(get(new Headers({ Authorization: 'Bearer abc' })), bearer)
  t.deepEqual(get(new Map([['Authorization', 'Bearer abc']])), bearer)
  t.deepEqual(get([['Authorization', 'Bearer abc']]), bearer)
  t.deepEqual(get(['Authorization', 'dpop abc']), { ...bearer, scheme: 'DPoP' })
})

test('reads a query and a form body', (t) => {
  t.deepEqual(get([], '/?a=1&access_token=abc#x'), { ...bearer, location: 'query' })
  t.deepEqual(get([], '/?acces%73_token=abc'), { ...bearer, location: 'query' })
  const inBody = { ...bearer, location: 'body' } as const
  t.deepEqual(post('access_token=abc'), inBody)
  t.deepEqual(post(new URLSearchParams({ access_token: 'abc' })), inBody)
  t.deepEqual(post({ access_token: 'abc' }), inBody)
  t.deepEqual(post('access_token=abc', ['content-type', `${form[1]}; charset=utf-8`]), inBody)
})

test('finds nothing in other schemes, bodies and methods', async (t) => {
  const missing = (attempt: () => unknown) => refused(t, 'credentials_missing', attempt)
  await missing(() => get([]))
  await missing(() => get(['Authorization', 'Basic YTpi']))
  await missing(() => get(['Authorization', 'Bearertoken']))
  await missing(() => get(['Authorization', 'Digest username="a", realm="b"']))
  await missing(() => post('access_token=abc', form, 'HEAD'))
  await missing(() => post('access_token=abc', ['Content-Type', 'application/json']))
  await missing(() => post('access_token=abc', form, 'GET'))
  await missing(() => post({}))
  await missing(() => post(Object.create({ access_token: 'abc' })))
})

test('rejects two credentials, wherever they are', async (t) => {
  const multiple = (attempt: () => unknown) => refused(t, 'credentials_multiple', attempt)
  const header = ['Authorization', 'Bearer abc']
  await multiple(() => get([...header, ...header]))
  await multiple(() => get([...header, 'Authorization', 'DPoP abc']))
  await multiple(() => get([...header, 'Authorization', 'Basic YTpi']))
  await multiple(() => get(['Authorization', 'Bearer a, DPoP b']))
  await multiple(() => get(header, '/?access_token=abc'))
  await multiple(() => get([], '/?access_token=abc&access_token=abc'))
  await multiple(() => post('access_token=abc', [...form, ...header]))
  await multiple(() => post('access_token=abc&access_token=d'))
  await multiple(() => post({ access_token: ['a', 'b'] }))
  const both = { method: 'POST', url: '/?access_token=a', headers: form, body: 'access_token=a' }
  await multiple(() => readCredential(both))
})

test('rejects malformed credentials', async (t) => {
  const malformed = (attempt: () => unknown) => refused(t, 'credentials_malformed', attempt)
  await malformed(() => get(['Authorization', 'Bearer']))
  await malformed(() => get(['Authorization', 'Bearer ']))
  await malformed(() => get(['Authorization', 'DPoP']))
  await malformed(() => get(['Authorization', 'Bearer a b']))
  await malformed(() => post({ access_token: {} }))
  await malformed(() => get([], '/?access_token='))
})

test('refuses the headers in which Node has hidden what was repeated', (t) => {
  const headers = { authorization: 'Bearer abc' } as never
  t.throws(() => get(headers), { instanceOf: TypeError, message: /rawHeaders/ })
})
