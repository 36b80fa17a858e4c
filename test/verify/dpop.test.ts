import test from 'ava'
import {
  type DPoPExpectation,
  ProofKeys,
  replayKey,
  verifyDPoPProof,
} from '../../packages/verify/dpop.ts'
import { createDPoPNonces } from '../../packages/verify/dpop-nonce.ts'
import { createMemoryReplayStore } from '../../packages/verify/replay.ts'
import {
  accessToken,
  ath,
  clientKey,
  dpopProof,
  dpopRequest,
  htu,
  jkt,
  start,
  verifierWith,
} from '../support/verify/fixtures.ts'
import { encode, makeKey, signJws, signRaw, weakExponents } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'

const token = accessToken()
const expected: DPoPExpectation = { method: 'GET', uri: htu, now: start, ath: ath(token), jkt }

test('accepts a valid proof and returns a frozen fact', (t) => {
  const proof = verifyDPoPProof(dpopProof(token, { jti: 'one' }), expected)
  t.deepEqual({ ...proof }, { jkt, jti: 'one', htm: 'GET', htu, iat: start, nonce: undefined })
  t.true(Object.isFrozen(proof))
  t.is(replayKey(proof), `${jkt}.one`)
})

test('accepts a proof without an access token, as an authorization server sees it', (t) => {
  const proof = dpopProof(token, { ath: undefined })
  t.is(verifyDPoPProof(proof, { method: 'GET', uri: htu, now: start }).jkt, jkt)
})

for (const alg of [
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
  'RS256',
  'PS256',
  'PS384',
  'PS512',
]) {
  test(`accepts a proof signed with ${alg}`, (t) => {
    const { jkt: _, ...anyKey } = expected
    t.truthy(verifyDPoPProof(dpopProof(token, {}, {}, makeKey(alg)), anyKey).jkt)
  })
}

const claims = `{"jti":"a","htm":"GET","htu":"${htu}","ath":"${ath(token)}","iat":0000}`
const broken: [title: string, code: Parameters<typeof refused>[1], proof: () => string][] = [
  ['that is no JWT', 'dpop_malformed', () => 'proof'],
  ['of two parts', 'dpop_malformed', () => dpopProof(token).split('.').slice(0, 2).join('.')],
  ['of four parts', 'dpop_malformed', () => `${dpopProof(token)}.x`],
  ['with padding', 'dpop_malformed', () => `${dpopProof(token)}==`],
  ['with spare bits in its signature', 'dpop_malformed', () => spareBits(dpopProof(token))],
  ['with a line break', 'dpop_malformed', () => dpopProof(token).replace('.', '.\n')],
  ['beside another one', 'dpop_multiple', () => `${dpopProof(token)}, ${dpopProof(token)}`],
  ['that is an array', 'dpop_malformed', () => withPayload('[]')],
  ['that is null', 'dpop_malformed', () => withPayload('null')],
  ['that is no text', 'dpop_malformed', () => 5 as never],
  [
    'with a header that is no JSON',
    'dpop_malformed',
    () => dpopProof(token).replace(/^[^.]+/, encode('{')),
  ],
  ['with the same member twice', 'dpop_malformed', () => withPayload('{"jti":"a", "jti":"b"}')],
  ['that is not UTF-8', 'dpop_malformed', () => withPayload(Buffer.from([0x7b, 0xff, 0x7d]))],
  ['of 10,000 characters', 'dpop_too_large', () => dpopProof(token, { pad: 'x'.repeat(10_000) })],
  ['without jti', 'dpop_claims', () => dpopProof(token, { jti: undefined })],
  ['with a numeric jti', 'dpop_claims', () => dpopProof(token, { jti: 7 })],
  ['with an empty jti', 'dpop_claims', () => dpopProof(token, { jti: '' })],
  ['with a huge jti', 'dpop_claims', () => dpopProof(token, { jti: 'x'.repeat(513) })],
  ['without htm', 'dpop_claims', () => dpopProof(token, { htm: undefined })],
  ['without htu', 'dpop_claims', () => dpopProof(token, { htu: undefined })],
  ['with an htu array', 'dpop_claims', () => dpopProof(token, { htu: [htu] })],
  ['without iat', 'dpop_claims', () => dpopProof(token, { iat: undefined })],
  ['with an infinite iat', 'dpop_claims', () => withPayload(claims.replace(':0000', ':1e999'))],
  ['with an iat text', 'dpop_claims', () => dpopProof(token, { iat: `${start}` })],
  ['with a numeric nonce', 'dpop_claims', () => dpopProof(token, { nonce: 1 })],
  ['without typ', 'dpop_type', () => dpopProof(token, {}, { typ: undefined })],
  ['of typ JWT', 'dpop_type', () => dpopProof(token, {}, { typ: 'JWT' })],
  ['with alg none', 'dpop_algorithm', () => dpopProof(token, {}, { alg: 'none' })],
  [
    'with alg none and no jwk',
    'dpop_algorithm',
    () => dpopProof(token, {}, { alg: 'none', jwk: undefined }),
  ],
  ['with alg HS256', 'dpop_algorithm', () => dpopProof(token, {}, { alg: 'HS256' })],
  ['with an alg for another curve', 'dpop_algorithm', () => dpopProof(token, {}, { alg: 'ES384' })],
  ['with an alg for another type', 'dpop_algorithm', () => dpopProof(token, {}, { alg: 'RS256' })],
  ['with alg toString', 'dpop_algorithm', () => dpopProof(token, {}, { alg: 'toString' })],
  ['with crit', 'dpop_malformed', () => dpopProof(token, {}, { crit: ['exp'] })],
  ['with a jwk for another alg', 'dpop_algorithm', () => withJwk({ alg: 'ES384' })],
  ['without jwk', 'dpop_key', () => dpopProof(token, {}, { jwk: undefined })],
  ['with its private key', 'dpop_key', () => dpopProof(token, {}, { jwk: clientKey.privateJwk })],
  [
    'with a symmetric key',
    'dpop_key',
    () => dpopProof(token, {}, { jwk: { kty: 'oct', k: 'AA' } }),
  ],
  ['with a padded coordinate', 'dpop_key', () => withJwk({ x: `${clientKey.publicJwk.x}=` })],
  ['with a long coordinate', 'dpop_key', () => withJwk({ x: leadingZero(clientKey.publicJwk.x) })],
  ['with a point off its curve', 'dpop_key', () => withJwk({ y: clientKey.publicJwk.x })],
  ['of another key pair', 'dpop_signature', () => withJwk(makeKey().publicJwk)],
  ['with an empty signature', 'dpop_malformed', () => dpopProof(token).replace(/[^.]+$/, '')],
  ['with a short signature', 'dpop_signature', () => dpopProof(token).replace(/[^.]+$/, 'AAAA')],
  [
    'with a zero signature',
    'dpop_signature',
    () => dpopProof(token).replace(/[^.]+$/, 'A'.repeat(86)),
  ],
  ['changed after signing', 'dpop_signature', () => changed(dpopProof(token))],
  ['for another method', 'dpop_method', () => dpopProof(token, { htm: 'POST' })],
  ['for the method in lower case', 'dpop_method', () => dpopProof(token, { htm: 'get' })],
  ['for another host', 'dpop_uri', () => dpopProof(token, { htu: 'https://evil.example/notes' })],
  [
    'for another port',
    'dpop_uri',
    () => dpopProof(token, { htu: 'https://api.example:8443/notes' }),
  ],
  ['for another scheme', 'dpop_uri', () => dpopProof(token, { htu: 'http://api.example/notes' })],
  ['for another path', 'dpop_uri', () => dpopProof(token, { htu: `${htu}/1` })],
  [
    'for the path in another case',
    'dpop_uri',
    () => dpopProof(token, { htu: 'https://api.example/Notes' }),
  ],
  [
    'for a user at the host',
    'dpop_uri',
    () => dpopProof(token, { htu: 'https://a@api.example/notes' }),
  ],
  [
    'with a backslash in htu',
    'dpop_uri',
    () => dpopProof(token, { htu: 'https://api.example\\notes' }),
  ],
  ['for a relative htu', 'dpop_uri', () => dpopProof(token, { htu: '/notes' })],
  ['that is too old', 'dpop_expired', () => dpopProof(token, { iat: start - 71 })],
  ['from the future', 'dpop_not_yet_valid', () => dpopProof(token, { iat: start + 11 })],
  ['without ath', 'dpop_token_hash', () => dpopProof(token, { ath: undefined })],
  ['for another token', 'dpop_token_hash', () => dpopProof(token, { ath: ath('other') })],
  ['by another key', 'dpop_key_mismatch', () => dpopProof(token, {}, {}, makeKey())],
]

for (const [title, code, proof] of broken) {
  test(`rejects a proof ${title}`, async (t) => {
    await refused(t, code, () => verifyDPoPProof(proof(), expected))
  })
}

for (const accepted of [
  `${htu}?limit=3`,
  `${htu}#top`,
  'HTTPS://API.example:443/notes',
  'https://api.example/x/../notes',
  'https://api.example/%6Eotes',
]) {
  test(`accepts ${accepted} as the same URI`, (t) => {
    t.notThrows(() => verifyDPoPProof(dpopProof(token, { htu: accepted }), expected))
  })
}

for (const iat of [start - 70, start + 10, start - 0.5]) {
  test(`accepts a proof made ${start - iat} seconds ago`, (t) => {
    t.notThrows(() => verifyDPoPProof(dpopProof(token, { iat }), expected))
  })
}

test('rejects an algorithm that policy excludes, even from a key it knows', async (t) => {
  const keys = new ProofKeys()
  verifyDPoPProof(dpopProof(token), { ...expected, keys })
  const policy = { ...expected, keys, algorithms: ['EdDSA'] }
  await refused(t, 'dpop_algorithm', () => verifyDPoPProof(dpopProof(token), policy))
})

test('asks the caller about nonces only when there is a policy', async (t) => {
  const acceptNonce = (nonce: string | undefined) => nonce === 'current'
  const proof = dpopProof(token, { nonce: 'current' })
  t.is(verifyDPoPProof(proof, { ...expected, acceptNonce }).nonce, 'current')
  for (const nonce of [undefined, 'old']) {
    const other = dpopProof(token, { nonce })
    await refused(t, 'dpop_nonce', () => verifyDPoPProof(other, { ...expected, acceptNonce }))
  }
})

test('verifies each signature although the key is known', async (t) => {
  const keys = new ProofKeys()
  verifyDPoPProof(dpopProof(token), { ...expected, keys })
  t.notThrows(() => verifyDPoPProof(dpopProof(token), { ...expected, keys }))
  const forged = changed(dpopProof(token))
  await refused(t, 'dpop_signature', () => verifyDPoPProof(forged, { ...expected, keys }))
})

const headerOf = (proof: string) => proof.split('.')[0] as string

test('remembers a key that no token vouches for only when the caller says so', (t) => {
  const keys = new ProofKeys()
  const { jkt: _jkt, ...alone } = expected
  const proof = dpopProof(token)
  verifyDPoPProof(proof, { ...alone, keys })
  t.is(keys.get(headerOf(proof)), undefined)
  keys.remember(proof)
  const known = keys.get(headerOf(proof))
  t.is(known?.jkt, jkt)
  keys.remember(dpopProof(token))
  t.is(keys.get(headerOf(proof)), known)
  t.notThrows(() => verifyDPoPProof(dpopProof(token), { ...expected, keys }))
})

test('remembers no key of a header over 1 KB', (t) => {
  const keys = new ProofKeys()
  const proof = dpopProof(token, {}, { junk: 'x'.repeat(800) })
  t.notThrows(() => verifyDPoPProof(proof, { ...expected, keys }))
  keys.remember(proof)
  t.is(keys.get(headerOf(proof)), undefined)
})

test('remembers no key of a proof that failed', async (t) => {
  const keys = new ProofKeys()
  const proof = dpopProof(token, {}, {}, makeKey())
  await refused(t, 'dpop_key_mismatch', () => verifyDPoPProof(proof, { ...expected, keys }))
  t.is(keys.get(headerOf(proof)), undefined)
})

test('accepts a jwk that names its alg', async (t) => {
  await t.notThrowsAsync(async () => verifyDPoPProof(withJwk({ alg: 'ES256' }), expected))
})

test('refuses RSA keys that are weak or expensive', async (t) => {
  const rsa = makeKey('RS256')
  const n = Buffer.from(rsa.publicJwk.n as string, 'base64url')
  for (const jwk of [
    { ...rsa.publicJwk, n: encode(n.subarray(0, 255)) },
    { ...rsa.publicJwk, n: encode(Buffer.concat([n, n, n])) },
    { ...rsa.publicJwk, n: leadingZero(rsa.publicJwk.n) },
    { ...rsa.publicJwk, e: encode(Buffer.alloc(5, 1)) },
    ...weakExponents.map((e) => ({ ...rsa.publicJwk, e: encode(e) })),
  ]) {
    const proof = dpopProof(token, {}, { jwk }, rsa)
    await refused(t, 'dpop_key', () => verifyDPoPProof(proof, expected))
  }
})

function withPayload(payload: string | Buffer): string {
  const header = { typ: 'dpop+jwt', alg: 'ES256', jwk: clientKey.publicJwk }
  const input = `${encode(JSON.stringify(header))}.${encode(payload)}`
  return `${input}.${encode(signRaw(clientKey, input))}`
}

function withJwk(members: Record<string, unknown>): string {
  return dpopProof(token, {}, { jwk: { ...clientKey.publicJwk, ...members } })
}

function leadingZero(coordinate: unknown): string {
  return encode(Buffer.concat([Buffer.alloc(1), Buffer.from(coordinate as string, 'base64url')]))
}

/** The last of 86 characters holds four bits that say nothing. */
function spareBits(proof: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  const last = alphabet.indexOf(proof.at(-1) as string)
  return proof.slice(0, -1) + alphabet[last ^ 1]
}

function changed(proof: string): string {
  const [header, , signature] = proof.split('.')
  const other = signJws(clientKey, {}, { jti: 'x', htm: 'GET', htu, iat: start, ath: ath(token) })
  return `${header}.${other.split('.')[1]}.${signature}`
}

const secret = Buffer.alloc(32, 1)
const other = Buffer.alloc(32, 2)

test('accepts its nonce for between one and two lifetimes', (t) => {
  const nonces = createDPoPNonces({ secrets: [secret], lifetime: 100 })
  const nonce = nonces.current(start)
  t.true(nonces.accepts(nonce, start))
  t.true(nonces.accepts(nonce, start + 199))
  t.false(nonces.accepts(nonce, start + 200))
  t.not(nonces.current(start + 100), nonce)
})

test('accepts the nonce of a node whose clock is ahead', (t) => {
  const nonces = createDPoPNonces({ secrets: [secret], lifetime: 100 })
  t.true(nonces.accepts(nonces.current(start + 100), start))
  t.false(nonces.accepts(nonces.current(start + 200), start))
})

test('shares nonces between nodes with one secret, and with no others', (t) => {
  const nonce = createDPoPNonces({ secrets: [secret] }).current(start)
  t.true(createDPoPNonces({ secrets: [secret] }).accepts(nonce, start))
  t.false(createDPoPNonces({ secrets: [other] }).accepts(nonce, start))
  t.true(createDPoPNonces({ secrets: [other, secret] }).accepts(nonce, start))
  t.not(createDPoPNonces({ secrets: [other, secret] }).current(start), nonce)
})

test('goes by the secrets of the moment', (t) => {
  let secrets = [secret]
  const nonces = createDPoPNonces({ secrets: () => secrets })
  const nonce = nonces.current(start)
  secrets = [other, secret]
  t.not(nonces.current(start), nonce)
  t.true(nonces.accepts(nonce, start))
  secrets = [other]
  t.false(nonces.accepts(nonce, start))
  secrets = []
  t.throws(() => nonces.current(start), { instanceOf: TypeError })
})

test('accepts nothing made up', (t) => {
  const nonces = createDPoPNonces({ secrets: [secret] })
  for (const nonce of [undefined, '', 'x', `${nonces.current(start)}x`]) {
    t.false(nonces.accepts(nonce, start))
  }
})

test('refuses to be made without a good secret', (t) => {
  for (const secrets of [[], [Buffer.alloc(31)], [secret, Buffer.alloc(1)]]) {
    t.throws(() => createDPoPNonces({ secrets }), { instanceOf: TypeError })
  }
  for (const lifetime of [0, Number.NaN, Number.POSITIVE_INFINITY]) {
    t.throws(() => createDPoPNonces({ secrets: [secret], lifetime }), { instanceOf: TypeError })
  }
})

test('a verifier asks for a nonce, and accepts the proof that has it', async (t) => {
  const nonces = createDPoPNonces({ secrets: [secret], lifetime: 100 })
  const verifier = verifierWith({ dpop: { nonces, algorithms: ['ES256'] } })
  const token = accessToken()
  const error = await refused(t, 'dpop_nonce', () => verifier.verify(dpopRequest(token)))
  t.is(error.dpopNonce, nonces.current(start))
  t.deepEqual(error.challenges, [
    'Bearer',
    'DPoP error="use_dpop_nonce", error_description="DPoP proof needs a nonce", algs="ES256"',
  ])
  const proof = dpopProof(token, { nonce: error.dpopNonce })
  const verified = await verifier.verify(dpopRequest(token, proof))
  t.deepEqual(verified.responseHeaders, {})
})

test('a verifier hands out the next nonce with the response, for no cache to keep', async (t) => {
  const nonces = createDPoPNonces({ secrets: [secret], lifetime: 100 })
  const verifier = verifierWith({ dpop: { nonces } })
  const token = accessToken()
  const proof = dpopProof(token, { nonce: nonces.current(start - 100) })
  const { responseHeaders } = await verifier.verify(dpopRequest(token, proof))
  t.is(responseHeaders['DPoP-Nonce'], nonces.current(start))
  t.is(responseHeaders['Cache-Control'], 'no-store')
})

const replayStart = 1_800_000_000

test('knows a mark until it expires, and not longer', (t) => {
  const store = createMemoryReplayStore({ capacity: 100 })
  t.is(store.consume('a', replayStart + 60, replayStart), 'fresh')
  t.is(store.consume('a', replayStart + 60, replayStart), 'replayed')
  t.is(store.consume('a', replayStart + 60, replayStart + 60), 'replayed')
  t.is(store.consume('b', replayStart + 60, replayStart), 'fresh')
  t.is(store.consume('a', replayStart + 120, replayStart + 61), 'fresh')
})

test('keeps a mark through the last fraction of its window', (t) => {
  const store = createMemoryReplayStore({ capacity: 100 })
  t.is(store.consume('a', replayStart + 59.9, replayStart), 'fresh')
  t.is(store.consume('a', replayStart + 59.9, replayStart + 59.9), 'replayed')
})

test('holds its capacity, forgets nothing, and says when it is full', (t) => {
  const capacity = 20_000
  const store = createMemoryReplayStore({ capacity })
  for (let i = 0; i < capacity; i++)
    t.is(store.consume(`${i}`, replayStart + 60, replayStart), 'fresh')
  let refused = 0
  for (let i = 0; i < capacity; i++)
    if (store.consume(`more ${i}`, replayStart + 60, replayStart) === 'full') refused++
  t.true(refused > capacity / 2)
  for (let i = 0; i < capacity; i++)
    t.is(store.consume(`${i}`, replayStart + 60, replayStart + 60), 'replayed')
})

test('takes the room of expired marks again, in fixed memory', (t) => {
  const capacity = 2000
  const store = createMemoryReplayStore({ capacity })
  const { bytes } = store
  for (let second = replayStart; second < replayStart + 100; second += 2) {
    for (let i = 0; i < capacity; i++) {
      if (store.consume(`${second} ${i}`, second + 1, second) !== 'fresh') t.fail()
    }
  }
  t.is(store.bytes, bytes)
  t.true(bytes / capacity <= 17)
})

for (const capacity of [0, -1, 1.5, Number.NaN, 1e9]) {
  test(`refuses a capacity of ${capacity}`, (t) => {
    t.throws(() => createMemoryReplayStore({ capacity }), { instanceOf: TypeError })
  })
}
