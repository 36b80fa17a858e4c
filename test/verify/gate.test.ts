/*
 * What the verifier of a gate's assertions refuses of its options and of what a gate itself has
 * signed, and what signing refuses. What thieves try is in test/gate/attacks.test.ts.
 */
import { generateKeyPairSync, hash } from 'node:crypto'
import type { VerifyError } from '@holdfast/verify'
import {
  createGateVerifier,
  type GateSigning,
  type GateVerifierOptions,
  signGateRequest,
} from '@holdfast/verify/gate'
import test from 'ava'

const audience = 'https://app.example'
const now = 1_800_000_000
const { privateKey: key, publicKey } = generateKeyPairSync('ed25519')
const jwks = { keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k', alg: 'EdDSA' }] }
const valid = { audience, jwks, now: () => now * 1000 } as const
const digest = hash('sha256', '', 'buffer')
const identity = { claims: { iss: 'https://as.example', sub: 'alice' }, methods: ['dpop'] as const }
const target = { method: 'GET', targetUri: `${audience}/`, headers: [] as readonly string[] }

/** The fields that a gate adds. */
const signed = (signing: object = {}, request: object = {}) =>
  signGateRequest(
    { ...target, ...request } as typeof target,
    {
      ...{ key, keyId: 'k', audience, identity, digest, now, lifetime: 10 },
      ...signing,
    } as GateSigning,
  )

const verify = (headers: readonly string[], options: object = {}) =>
  createGateVerifier({ ...valid, ...options } as GateVerifierOptions).verify({
    ...{ method: 'GET', url: '/', headers },
  })

test('accepts what a gate signs by Ed25519, and by P-256', async (t) => {
  t.is((await verify(signed())).identity?.claims.sub, 'alice')
  const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwk = { ...p256.publicKey.export({ format: 'jwk' }), kid: 'k', alg: 'ES256' }
  const { keyId } = await verify(signed({ key: p256.privateKey }), { jwks: { keys: [jwk] } })
  t.is(keyId, 'k')
})

const options: Readonly<Record<string, object>> = {
  'no audience': { audience: undefined },
  'an empty audience': { audience: '', publicOrigin: audience },
  'an audience that is no text': { audience: 1, publicOrigin: audience },
  'two sources of keys': { jwksUri: `${audience}/keys` },
  'no source of keys': { jwks: undefined },
  'an origin with a path': { publicOrigin: `${audience}/app` },
  'no replicas': { replicas: 0 },
  'half a replica': { replicas: 1.5 },
  'replicas that are no number': { replicas: Number.NaN },
  'replicas without a shared store': { replicas: 2 },
  'replicas and a store of one process': {
    replicas: 2,
    replay: { consume: async () => 'consumed' },
  },
  'an unknown option': { audiences: [audience] },
}
for (const [title, change] of Object.entries(options)) {
  test(`rejects options: ${title}`, (t) => {
    const given = { ...valid, ...change } as GateVerifierOptions
    t.throws(() => createGateVerifier(given), { instanceOf: TypeError })
  })
}

test('accepts one replica without a store, and several with a shared one', (t) => {
  t.notThrows(() => createGateVerifier({ ...valid, replicas: 1 }))
  const replay = { shared: true, consume: async () => 'consumed' as const }
  t.notThrows(() => createGateVerifier({ ...valid, replicas: 2, replay } as never))
})

const signings: Readonly<Record<string, readonly [object, object?]>> = {
  'an RSA key': [{ key: generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey }],
  'a key on P-384': [{ key: generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey }],
  'a key for agreement': [{ key: generateKeyPairSync('x25519').privateKey }],
  'no lifetime': [{ lifetime: 0 }],
  'a lifetime of 31 seconds': [{ lifetime: 31 }],
  'an identity of more than 16 KiB': [{ identity: { claims: { a: 'a'.repeat(16_384) } } }],
  'headers that are a text': [{}, { headers: 'Accept' }],
  'an identity that is there': [{}, { headers: ['Holdfast-Identity', 'e30'] }],
}
for (const [title, [signing, request]] of Object.entries(signings)) {
  test(`signs nothing with ${title}`, (t) => {
    t.throws(() => signed(signing, request), { instanceOf: TypeError })
  })
}

const mistakes: Readonly<Record<string, object>> = {
  'claims that are no object': { identity: { claims: 'alice', methods: [] } },
  'methods that are no list': { identity: { claims: {}, methods: 'dpop' } },
  'no audience': { audience: undefined },
}
for (const [title, signing] of Object.entries(mistakes)) {
  test(`rejects what a gate has signed with ${title}`, async (t) => {
    t.is((await t.throwsAsync<VerifyError>(verify(signed(signing))))?.code, 'gate_malformed')
  })
}

/** The fields of a valid assertion with one thing changed. */
const changed = (name: string, edit: (value: string) => string) =>
  signed().map((value, at, all) => (all[at - 1] === name ? edit(value) : value))

test('rejects algorithms that every object has, and an empty signature', async (t) => {
  const named = changed('Signature-Input', (text) => text.replace('"ed25519"', '"constructor"'))
  t.is((await t.throwsAsync<VerifyError>(verify(named)))?.code, 'gate_malformed')
  const empty = changed('Signature', () => 'gate=::')
  t.is((await t.throwsAsync<VerifyError>(verify(empty)))?.code, 'gate_malformed')
})

test('says that the gate cannot be asked, and not that its key is unknown', async (t) => {
  const away = {
    jwks: undefined,
    jwksUri: `${audience}/keys`,
    fetch: () => Promise.reject(new TypeError('away')),
  }
  const error = await t.throwsAsync<VerifyError>(verify(signed(), away))
  t.is(error?.code, 'issuer_unavailable')
})
