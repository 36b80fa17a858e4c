import test from 'ava'
import { createDbscSessions } from '../../packages/verify/dbsc-sessions.ts'
import { verifyDPoPProof } from '../../packages/verify/dpop.ts'
import { createDPoPNonces } from '../../packages/verify/dpop-nonce.ts'
import { expressVerify } from '../../packages/verify/express.ts'
import { fastifyVerify } from '../../packages/verify/fastify.ts'
import { fetchVerify } from '../../packages/verify/fetch.ts'
import { createIdTokenVerifier } from '../../packages/verify/id-token.ts'
import { readClientCertificateHeader } from '../../packages/verify/index.ts'
import { koaVerify } from '../../packages/verify/koa.ts'
import { nodeVerify } from '../../packages/verify/node.ts'
import { createMemoryReplayStore } from '../../packages/verify/replay.ts'
import { createPostgresReplayStore } from '../../packages/verify/replay-postgres.ts'
import { createRedisReplayStore } from '../../packages/verify/replay-redis.ts'
import { readTokenBindingHeaders } from '../../packages/verify/token-binding-headers.ts'
import { createVerifier } from '../../packages/verify/verifier.ts'
import { signJws } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'
import {
  accessToken,
  audience,
  bearerRequest,
  dpopProof,
  dpopRequest,
  htu,
  issuer,
  issuerKey,
  jwks,
  start,
  verifierWith,
} from '../support/verify/world.ts'

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
  { decryption: { keys: {} } },
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
