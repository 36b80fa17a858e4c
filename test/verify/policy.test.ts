import { createCipheriv, generateKeyPairSync, publicEncrypt, randomBytes } from 'node:crypto'
import test from 'ava'
import { CompactEncrypt, exportJWK, generateKeyPair, importJWK } from 'jose'
import { createDbscSessions } from '../../packages/verify/dbsc-sessions.ts'
import { verifyDPoPProof } from '../../packages/verify/dpop.ts'
import { createDPoPNonces } from '../../packages/verify/dpop-nonce.ts'
import type { VerifyEvent } from '../../packages/verify/events.ts'
import { expressVerify } from '../../packages/verify/express.ts'
import { fastifyVerify } from '../../packages/verify/fastify.ts'
import { fetchVerify } from '../../packages/verify/fetch.ts'
import { createIdTokenVerifier } from '../../packages/verify/id-token.ts'
import { readClientCertificateHeader } from '../../packages/verify/index.ts'
import { koaVerify } from '../../packages/verify/koa.ts'
import { nodeVerify } from '../../packages/verify/node.ts'
import type { VerifierOptions } from '../../packages/verify/options.ts'
import { createMemoryReplayStore } from '../../packages/verify/replay.ts'
import { createPostgresReplayStore } from '../../packages/verify/replay-postgres.ts'
import { createRedisReplayStore } from '../../packages/verify/replay-redis.ts'
import { readTokenBindingHeaders } from '../../packages/verify/token-binding-headers.ts'
import { createVerifier, type VerifyRequest } from '../../packages/verify/verifier.ts'
import {
  accessToken,
  audience,
  bearerRequest,
  dpopProof,
  dpopRequest,
  htu,
  issuer,
  issuerKey,
  jkt,
  jwks,
  start,
  verifierWith,
} from '../support/verify/fixtures.ts'
import { encode, makeKey, signJws } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'

const everywhere: Partial<VerifierOptions> = { tokenLocations: ['header', 'body', 'query'] }
const certificate = { thumbprint: jkt }

function inQuery(token: string): VerifyRequest {
  return { method: 'GET', url: `/notes?access_token=${token}`, headers: [] }
}

function inBody(token: string): VerifyRequest {
  const headers = ['Content-Type', 'application/x-www-form-urlencoded']
  return { method: 'POST', url: '/notes', headers, body: { access_token: token } }
}

for (const [place, request] of [
  ['query', inQuery],
  ['body', inBody],
] as const) {
  test(`checks a certificate-bound token in the ${place} where that is allowed`, async (t) => {
    const sent = request(accessToken({ cnf: { 'x5t#S256': jkt } }))
    const verifier = verifierWith(everywhere)
    await refused(t, 'certificate_missing', () => verifier.verify(sent))
    const { location } = await verifier.verify({ ...sent, certificate })
    t.is(location, place)
    await refused(t, 'credentials_location', () => verifierWith().verify({ ...sent, certificate }))
  })

  test(`refuses a DPoP-bound token in the ${place} in any case`, async (t) => {
    const token = accessToken()
    const sent = request(token)
    const headers = [...(sent.headers as string[]), 'DPoP', dpopProof(token, { htm: sent.method })]
    for (const options of [{}, everywhere]) {
      await refused(t, 'dpop_token_leaked', () =>
        verifierWith(options).verify({ ...sent, headers }),
      )
    }
  })
}

test('accepts an unbound token in the query only with a switch of its own', async (t) => {
  const request = inQuery(accessToken({ cnf: undefined }))
  const lax = { ...everywhere, allowBearer: true }
  await refused(t, 'bearer_refused', () => verifierWith(lax).verify(request))
  const laxer = verifierWith({ ...lax, allowUnboundTokenInQuery: true })
  const { responseHeaders } = await laxer.verify(request)
  t.deepEqual(responseHeaders, { 'Cache-Control': 'no-store' })
  const { responseHeaders: others } = await verifierWith(lax).verify(
    inBody(accessToken({ cnf: undefined })),
  )
  t.deepEqual(others, {})
})

test('keeps what a query token brings out of caches', async (t) => {
  const request = { ...inQuery(accessToken({ cnf: { 'x5t#S256': jkt } })), certificate }
  const { responseHeaders } = await verifierWith(everywhere).verify(request)
  t.is(responseHeaders['Cache-Control'], 'no-store')
})

test('maps paths as a rewriting proxy does', async (t) => {
  const publicPaths = { '/': '/api', '/internal': '/v1', '/internal/x/': '/' }
  const verifier = verifierWith({ publicPaths })
  for (const [url, shown] of [
    ['/notes?a=1', '/api/notes'],
    ['/', '/api/'],
    ['/internal', '/v1'],
    ['/internal/notes', '/v1/notes'],
    ['/internals', '/api/internals'],
    ['/internal/x/y', '/y'],
  ]) {
    const token = accessToken()
    const right = dpopProof(token, { htu: `${audience}${shown}` })
    await t.notThrowsAsync(
      verifier.verify({ ...dpopRequest(token, right), url: url as string }),
      url,
    )
    const wrong = dpopProof(token, { htu: `${audience}${url}` })
    await refused(t, 'dpop_uri', () =>
      verifier.verify({ ...dpopRequest(token, wrong), url: url as string }),
    )
  }
})

test('holds each of several issuers to its own policy', async (t) => {
  const other = 'https://other.example'
  const key = makeKey()
  const verifier = createVerifier({
    audience,
    now: () => start * 1000,
    issuers: [
      { issuer, jwks },
      {
        issuer: other,
        jwks: { keys: [{ ...key.publicJwk, kid: 'k1' }] },
        audience: 'urn:other',
        methods: ['mtls'],
        allowBearer: true,
      },
    ],
  })
  await t.notThrowsAsync(verifier.verify(dpopRequest()))
  const bearer = { iss: other, aud: 'urn:other', cnf: undefined }
  await t.notThrowsAsync(verifier.verify(bearerRequest(accessToken(bearer, {}, key))))
  const refusals: [Parameters<typeof refused>[1], string][] = [
    ['token_signature', accessToken(bearer)],
    ['token_signature', accessToken({}, {}, key)],
    ['token_audience', accessToken({ ...bearer, aud: audience }, {}, key)],
    ['confirmation_method', accessToken({ ...bearer, cnf: { tbh: jkt } }, {}, key)],
    ['bearer_refused', accessToken({ cnf: undefined })],
    ['token_issuer', accessToken({ iss: 'https://third.example' }, {}, key)],
  ]
  for (const [code, token] of refusals) {
    await refused(t, code, () => verifier.verify(bearerRequest(token)))
  }
})

test('asks whether a token was revoked each time', async (t) => {
  const revoked = new Set<unknown>()
  const verifier = verifierWith({ isRevoked: async ({ claims }) => revoked.has(claims.jti) })
  const token = accessToken({ jti: 'one' })
  await t.notThrowsAsync(verifier.verify(dpopRequest(token)))
  revoked.add('one')
  await refused(t, 'token_revoked', () => verifier.verify(dpopRequest(token)))
})

test('refuses when nobody can say whether a token was revoked', async (t) => {
  const failing = verifierWith({ isRevoked: () => Promise.reject(new Error('down')) })
  await refused(t, 'revocation_unavailable', () => failing.verify(dpopRequest()))
  const silent = verifierWith({ isRevoked: () => undefined as never })
  await refused(t, 'token_revoked', () => silent.verify(dpopRequest()))
})

async function encryption() {
  const { publicKey, privateKey } = await generateKeyPair('ECDH-ES', { extractable: true })
  const jwk = { ...(await exportJWK(privateKey)), alg: 'ECDH-ES', kid: 'e1' }
  const encrypt = (token: string, header: Record<string, unknown> = {}) =>
    new CompactEncrypt(Buffer.from(token))
      .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', kid: 'e1', cty: 'JWT', ...header })
      .encrypt(publicKey)
  return { jwk, encrypt }
}

test('decrypts a token, and binds the proof to the encrypted form', async (t) => {
  const { jwk, encrypt } = await encryption()
  const verifier = verifierWith({ decryption: { keys: [jwk] }, requireEncryption: true })
  const inner = accessToken()
  const token = await encrypt(inner)
  await t.notThrowsAsync(verifier.verify(dpopRequest(token)))
  await refused(t, 'dpop_token_hash', () => verifier.verify(dpopRequest(token, dpopProof(inner))))
  await refused(t, 'token_encryption', () => verifier.verify(dpopRequest(inner)))
})

test('rejects what it cannot decrypt', async (t) => {
  const { jwk, encrypt } = await encryption()
  const stranger = await encryption()
  const verifier = verifierWith({ decryption: { keys: [jwk] } })
  const direct = await new CompactEncrypt(Buffer.from(accessToken()))
    .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
    .encrypt(await importJWK({ kty: 'oct', k: Buffer.alloc(32).toString('base64url') }, 'dir'))
  for (const token of [
    await stranger.encrypt(accessToken()),
    await encrypt(accessToken(), { kid: 'e2' }),
    await encrypt(accessToken(), { enc: 'A192GCM' }),
    direct,
    'a.b.c.d.e',
  ]) {
    await refused(t, 'token_encryption', () => verifier.verify(dpopRequest(token)))
  }
  const unsigned = await encrypt('{"iss":"x"}')
  await refused(t, 'token_malformed', () => verifier.verify(dpopRequest(unsigned)))
})

test('rejects an encrypted token for which it would have to guess a key', async (t) => {
  const [one, other] = [await encryption(), await encryption()]
  const rsa = await generateKeyPair('RSA-OAEP', { extractable: true })
  const ofAnotherKind = { ...(await exportJWK(rsa.privateKey)), alg: 'RSA-OAEP' }
  const token = await one.encrypt(accessToken(), { kid: undefined })
  const verifierOf = (...keys: object[]) =>
    verifierWith({ decryption: { keys: keys.map((key) => ({ ...key, kid: undefined })) } })
  await t.notThrowsAsync(verifierOf(one.jwk, ofAnotherKind).verify(dpopRequest(token)))
  const guessing = verifierOf(one.jwk, other.jwk)
  await refused(t, 'token_encryption', () => guessing.verify(dpopRequest(token)))
})

test('rejects an encrypted token whose header names a member twice', async (t) => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const jwk = { ...privateKey.export({ format: 'jwk' }), alg: 'RSA-OAEP' }
  const verifier = verifierWith({ decryption: { keys: [jwk] } })
  const encrypt = (header: string) => {
    const [key, iv] = [randomBytes(32), randomBytes(12)]
    const protectedHeader = encode(header)
    const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(protectedHeader))
    const sealed = Buffer.concat([cipher.update(accessToken()), cipher.final()])
    const parts = [publicEncrypt(publicKey, key), iv, sealed, cipher.getAuthTag()]
    return [protectedHeader, ...parts.map(encode)].join('.')
  }
  const token = encrypt('{"alg":"RSA-OAEP","enc":"A256GCM"}')
  await t.notThrowsAsync(verifier.verify(dpopRequest(token)))
  const twice = encrypt('{"alg":"dir","alg":"RSA-OAEP","enc":"A256GCM"}')
  await refused(t, 'token_encryption', () => verifier.verify(dpopRequest(twice)))
})

test('reports what it accepts, refuses, and finds leaked, without contents', async (t) => {
  const events: VerifyEvent[] = []
  const verifier = verifierWith({ onEvent: (event) => events.push(event) })
  const token = accessToken({ jti: 'one' })
  const identity = { issuer, clientId: 'app', jti: 'one' }
  await verifier.verify(dpopRequest(token))
  await refused(t, 'dpop_token_leaked', () => verifier.verify(inQuery(token)))
  await refused(t, 'credentials_missing', () => verifier.verify({ ...inBody(''), body: {} }))
  t.like(events, [
    { type: 'accepted', methods: ['dpop'], location: 'header', token: identity },
    { type: 'leaked', location: 'query', token: identity },
    { type: 'refused', code: 'dpop_token_leaked', status: 401, enforced: true, token: identity },
    { type: 'refused', code: 'credentials_missing', token: undefined },
  ])
  t.false(JSON.stringify(events).includes(token.slice(-20)))
})

test('lets no listener decide', async (t) => {
  const verifier = verifierWith({
    onEvent: () => {
      throw new Error('broken')
    },
  })
  await t.notThrowsAsync(verifier.verify(dpopRequest()))
  await refused(t, 'token_malformed', () => verifier.verify(dpopRequest('x')))
})

test('asks for scopes', async (t) => {
  const verifier = verifierWith({ dpop: { algorithms: ['ES256'] } })
  const verified = await verifier.verify(dpopRequest(accessToken({ scope: 'a b' })))
  t.notThrows(() => verifier.checkRequirements(verified, { scopes: ['b', 'a'] }))
  const error = await refused(t, 'insufficient_scope', () =>
    verifier.checkRequirements(verified, { scopes: ['a', 'c'] }),
  )
  t.is(error.status, 403)
  t.deepEqual(error.challenges, [
    'Bearer',
    'DPoP error="insufficient_scope", error_description="Access token lacks a scope", scope="a c", algs="ES256"',
  ])
  const without = await verifier.verify(dpopRequest(accessToken({ scope: undefined })))
  await refused(t, 'insufficient_scope', () =>
    verifier.checkRequirements(without, { scopes: ['a'] }),
  )
})

test('asks for a stronger or more recent authentication', async (t) => {
  const verifier = verifierWith({ dpop: { algorithms: ['ES256'] } })
  const verified = await verifier.verify(
    dpopRequest(accessToken({ acr: 'gold', auth_time: start - 100 })),
  )
  const demand = (acrValues: string[], maxAge?: number) => () =>
    verifier.checkRequirements(verified, { acrValues, ...(maxAge && { maxAge }) })
  t.notThrows(demand(['silver', 'gold'], 90))
  t.notThrows(demand([]))
  const code = 'insufficient_user_authentication'
  const level = await refused(t, code, demand(['platinum', 'silver'], 100))
  t.is(level.status, 401)
  t.regex(level.challenges[1] ?? '', /acr_values="platinum silver", max_age="100"/)
  await refused(t, code, demand(['gold'], 89))
  const unknown = await verifier.verify(dpopRequest())
  await refused(t, code, () => verifier.checkRequirements(unknown, { maxAge: 1000 }))
  await refused(t, code, () => verifier.checkRequirements(unknown, { acrValues: ['gold'] }))
})

const contradictions: [option: string, options: Record<string, unknown>][] = [
  ['tokenLocations', { tokenLocations: ['cookie'] }],
  ['allowUnboundTokenInQuery', { allowUnboundTokenInQuery: true, allowBearer: true }],
  ['allowUnboundTokenInQuery', { allowUnboundTokenInQuery: true, ...everywhere }],
  ['mode', { mode: 'off' }],
  ['metadata', { metadata: {}, audience: 'notes', publicOrigin: 'https://api.example' }],
  ['resource', { resource: 'notes' }],
  ['requireEncryption', { requireEncryption: true }],
  ['decryption', { decryption: { keys: [] } }],
  ['decryption', { decryption: { keys: {} } }],
  ['decryption', { decryption: { keys: [null] } }],
  ['decryption', { decryption: { keys: [{ kty: 'oct', k: 'AA', alg: 'dir' }] } }],
  ['publicPaths', { publicPaths: { internal: '/' } }],
  ['introspection', { introspection: { authentication: { method: 'none', clientId: 'a' } } }],
]

for (const [option, options] of contradictions) {
  test(`refuses to be made with ${JSON.stringify(options)}`, (t) => {
    const error = t.throws(() => verifierWith(options), { instanceOf: TypeError })
    t.true(error?.message.includes(option), error?.message)
  })
}

/*
 * What JavaScript lets through where TypeScript would not: each of these would have switched a
 * check off, or left it out.
 */

const secrets = [Buffer.alloc(32, 1)]
const authentication = { method: 'client_secret_basic', clientId: 'a', clientSecret: 'b' }
const dbsc = {
  origin: 'https://app.example',
  secret: Buffer.alloc(32, 1),
  bindings: { insert: async () => true, find: async () => undefined },
  replays: createMemoryReplayStore({ capacity: 100 }),
}

type Make = (options: never) => unknown

const makers: Readonly<Record<string, [make: Make, valid: object]>> = {
  createVerifier: [createVerifier, { issuer, audience, jwks }],
  createIdTokenVerifier: [createIdTokenVerifier, { issuer, clientId: 'rp', jwks }],
  createDPoPNonces: [createDPoPNonces, { secrets }],
  createMemoryReplayStore: [createMemoryReplayStore, { capacity: 100 }],
  createRedisReplayStore: [createRedisReplayStore, { send: async () => 'OK' }],
  createPostgresReplayStore: [
    createPostgresReplayStore,
    { client: { query: async () => ({ rowCount: 1 }) } },
  ],
  createDbscSessions: [createDbscSessions, dbsc],
}

test('createRedisReplayStore rejects what sends nothing, and a reply that promises nothing', async (t) => {
  t.throws(() => createRedisReplayStore({ send: true as never }), { message: /must be a function/ })
  const replyTo = (reply: unknown) =>
    createRedisReplayStore({ send: async () => reply }).consume('a', start + 60, start)
  t.is(await replyTo('OK'), 'fresh')
  t.is(await replyTo(null), 'replayed')
  await t.throwsAsync(async () => replyTo('QUEUED'))
})

for (const [name, [make, valid]] of Object.entries(makers)) {
  test(`${name} rejects an option that it does not know`, (t) => {
    t.notThrows(() => make(valid as never))
    for (const options of [{ ...valid, allowBearrer: true }, [], null, 'x', undefined]) {
      if (options === undefined && name === 'createMemoryReplayStore') continue
      t.throws(() => make(options as never), { instanceOf: TypeError })
    }
  })
}

const wrongOptions: readonly object[] = [
  { allowBearer: 'false' },
  { allowBearer: 0 },
  { requireEncryption: 'true' },
  { allowUnboundTokenInQuery: 'false' },
  { algorithms: 'ES256' },
  { methods: 'dpop' },
  { tokenLocations: 'header' },
  { harmlessConfirmationMembers: 'tbh' },
  { harmlessConfirmationMembers: [1] },
  { isRevoked: true },
  { onEvent: {} },
  { fetch: 'x' },
  { now: 5 },
  { replay: {} },
  { realm: 5 },
  { dpop: { maxage: 5 } },
  { dpop: [] },
  { dpop: { nonces: {} } },
  { dpop: { nonces: { current: true, accepts: true } } },
  { metadata: { resource: 'https://other.example' } },
  { decryption: { key: [] } },
  { introspection: { authentication, cacheSecond: 0 } },
  { introspection: { authentication, signed: 'true' } },
  { introspection: { authentication: { ...authentication, secret: 'x' } } },
  {
    introspection: {
      authentication: { method: 'client_secret_basic', clientId: 'a', clientSecret: '' },
    },
  },
]

for (const options of wrongOptions) {
  test(`createVerifier rejects ${JSON.stringify(options)}`, (t) => {
    t.throws(() => verifierWith(options as never), { instanceOf: TypeError })
  })
}

test('createVerifier rejects what it does not know of one of several issuers', (t) => {
  const each = { issuer, audience, jwks }
  const of = (...issuers: object[]) => createVerifier({ issuers: issuers as never, audience })
  t.notThrows(() => of(each))
  t.throws(() => of({ ...each, allowBearrer: false }), { instanceOf: TypeError })
  t.throws(() => of({ ...each, allowBearer: 'false' }), { instanceOf: TypeError })
  t.throws(() => of({ ...each, mode: 'observe' }), { instanceOf: TypeError })
})

const adapters: Readonly<Record<string, (verifier: never, options?: never) => unknown>> = {
  expressVerify,
  koaVerify,
  fastifyVerify,
  fetchVerify,
  nodeVerify,
}

for (const [name, make] of Object.entries(adapters)) {
  test(`${name} rejects options in place of a verifier, and unknown ones`, (t) => {
    t.notThrows(() => make(verifierWith() as never))
    for (const verifier of [undefined, null, {}, { issuer, audience }, async () => ({})]) {
      t.throws(() => make(verifier as never), { instanceOf: TypeError })
    }
    for (const options of [{ fact: () => ({}) }, { facts: {} }, null, () => ({})]) {
      t.throws(() => make(verifierWith() as never, options as never), { instanceOf: TypeError })
    }
  })
}

for (const [name, make] of [
  ['express', expressVerify],
  ['koa', koaVerify],
  ['fastify', fastifyVerify],
] as const) {
  test(`${name}: requirements that ask for nothing are rejected when they are made`, (t) => {
    const { requiredScopes, stepUp } = make(verifierWith())
    t.notThrows(() => [requiredScopes('a', 'b'), stepUp({ acrValues: ['gold'] })])
    t.notThrows(() => stepUp({ maxAge: 0 }))
    for (const scopes of [[], [''], ['a b'], [['a']], [undefined]]) {
      t.throws(() => requiredScopes(...(scopes as never[])), { instanceOf: TypeError })
    }
    for (const requirements of [
      undefined,
      {},
      'gold',
      { acr: 'gold' },
      { acrValues: 'gold' },
      { acrValues: [] },
      { acrValues: ['gold'], maxage: 5 },
      { maxAge: '300' },
      { maxAge: Number.NaN },
      { maxAge: -1 },
      { acrValues: ['gold'], scopes: ['a'] },
    ]) {
      t.throws(() => stepUp(requirements as never), { instanceOf: TypeError })
    }
  })
}

test('node and fetch reject requirements that they do not know', async (t) => {
  const protect = nodeVerify(verifierWith())
  for (const requirements of [{ scope: ['a'] }, { scopes: 'a' }, { acr: 'x' }, { maxAge: '1' }]) {
    t.throws(() => protect(() => {}, requirements as never), { instanceOf: TypeError })
    const request = new Request(`${audience}/notes`)
    await t.throwsAsync(fetchVerify(verifierWith())(request, requirements as never), {
      instanceOf: TypeError,
    })
  }
  t.throws(() => protect({} as never), { instanceOf: TypeError })
})

const trusted = { trusted: true, format: 'nginx' } as const
const wrongForwarding: readonly object[] = [
  { trusted: 'false' },
  { trusted: 1 },
  { untrusted: 'maybe' },
  { trustd: true },
]

test('readers of forwarded headers reject options that only look like one', (t) => {
  t.is(readClientCertificateHeader([], trusted), undefined)
  t.is(readTokenBindingHeaders([], { trusted: true }), undefined)
  for (const options of wrongForwarding) {
    const certificate = { ...trusted, ...options }
    t.throws(() => readClientCertificateHeader([], certificate as never), { instanceOf: TypeError })
    const binding = { trusted: true, ...options }
    t.throws(() => readTokenBindingHeaders([], binding as never), { instanceOf: TypeError })
  }
  for (const format of ['constructor', 'NGINX', undefined]) {
    const options = { trusted: true, format }
    t.throws(() => readClientCertificateHeader([], options as never), { instanceOf: TypeError })
  }
})

test('verifyDPoPProof rejects expectations that nothing could fail', async (t) => {
  const proof = dpopProof(accessToken())
  const expected = { method: 'GET', uri: htu, now: start }
  t.notThrows(() => verifyDPoPProof(proof, expected))
  for (const wrong of [
    { now: undefined },
    { now: Number.NaN },
    { now: '1' },
    { maxAge: 'x' },
    { clockTolerance: Number.NaN },
    { algorithms: 'ES256' },
    { jtk: 'x' },
  ]) {
    t.throws(() => verifyDPoPProof(proof, { ...expected, ...wrong } as never), {
      instanceOf: TypeError,
    })
  }
  const later = { ...expected, acceptNonce: async () => true }
  await refused(t, 'dpop_nonce', () => verifyDPoPProof(proof, later as never))
})

test('verifyIdToken rejects expectations that nothing could fail', async (t) => {
  const { verifyIdToken } = createIdTokenVerifier({ issuer, clientId: 'rp', jwks })
  for (const expected of [
    undefined,
    {},
    { nonce: '' },
    { nonce: null, maxAge: '300' },
    { nonce: null, jtk: 'x' },
  ]) {
    await t.throwsAsync(verifyIdToken('x', expected as never), { instanceOf: TypeError })
  }
})

test('rejects a token whose times are no finite numbers', async (t) => {
  const verifier = verifierWith()
  for (const name of ['exp', 'iat', 'nbf']) {
    const [, claims = ''] = accessToken({ [name]: '#' }).split('.')
    const text = Buffer.from(claims, 'base64url').toString().replace('"#"', '1e999')
    const token = signJws(issuerKey, { typ: 'at+jwt', alg: 'ES256', kid: 'k1' }, text)
    await refused(t, 'token_claims', () => verifier.verify(dpopRequest(token)))
  }
  await refused(t, 'bearer_refused', () =>
    verifier.verify(bearerRequest(accessToken({ cnf: undefined, exp: 1e300 }))),
  )
})
