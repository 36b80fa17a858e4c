import test from 'ava'
import { calculateJwkThumbprint } from 'jose'
import {
  type DbscExpectation,
  parseDbscHeader,
  verifyDbscRefresh,
  verifyDbscRegistration,
} from '../../packages/verify/dbsc.ts'
import { deviceKey, refreshProof, registrationProof } from '../support/verify/dbsc.ts'
import { encode, makeKey, weakExponents } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'

const outstanding = ['older challenge', 'challenge']
const expected: DbscExpectation = {
  audience: 'https://op.example/dbsc/refresh',
  acceptChallenge: (challenge) => outstanding.includes(challenge),
}
const authorized = { ...expected, acceptAuthorization: (given?: string) => given === 'ticket' }
const key = { alg: 'ES256', jwk: deviceKey.publicJwk as Record<string, string> }

test('accepts a registration and returns a frozen fact', async (t) => {
  const registration = verifyDbscRegistration(
    registrationProof({ authorization: 'ticket' }),
    authorized,
  )
  t.deepEqual(
    { ...registration },
    {
      jkt: await calculateJwkThumbprint(deviceKey.publicJwk),
      alg: 'ES256',
      jwk: deviceKey.publicJwk as Record<string, string>,
      challenge: 'challenge',
      authorization: 'ticket',
    },
  )
  t.true(Object.isFrozen(registration))
})

test('keeps only what makes a key of the jwk that was registered', (t) => {
  const jwk = { ...deviceKey.publicJwk, kid: 'x', note: 'y'.repeat(100) }
  const registration = verifyDbscRegistration(registrationProof({}, { jwk }), expected)
  t.deepEqual(Object.keys(registration.jwk).sort(), ['crv', 'kty', 'x', 'y'])
})

test('accepts a refresh and returns the challenge that it answers', (t) => {
  t.is(verifyDbscRefresh(refreshProof(), key, expected), 'challenge')
})

test('accepts each of several outstanding challenges', (t) => {
  for (const jti of outstanding) t.is(verifyDbscRefresh(refreshProof({ jti }), key, expected), jti)
})

test('accepts RS256', (t) => {
  const rsa = makeKey('RS256')
  const { alg, jwk } = verifyDbscRegistration(registrationProof({}, {}, rsa), expected)
  t.notThrows(() => verifyDbscRefresh(refreshProof({}, {}, rsa), { alg, jwk }, expected))
})

test('rejects an RSA key whose exponent is weak', async (t) => {
  const rsa = makeKey('RS256')
  for (const e of weakExponents) {
    const jwk = { ...rsa.publicJwk, e: encode(e) }
    await refused(t, 'dbsc_key', () =>
      verifyDbscRegistration(registrationProof({}, { jwk }, rsa), expected),
    )
  }
})

test('accepts the endpoint as aud', (t) => {
  const { audience: aud } = expected
  t.notThrows(() => verifyDbscRefresh(refreshProof({ aud }), key, expected))
})

test('accepts a quoted proof as the specification writes it', (t) => {
  t.notThrows(() => verifyDbscRefresh(`"${refreshProof()}"`, key, expected))
})

type Code = Parameters<typeof refused>[1]

const brokenAlways: [title: string, code: Code, claims: object, header: object][] = [
  ['of typ dpop+jwt', 'dbsc_type', {}, { typ: 'dpop+jwt' }],
  ['without typ', 'dbsc_type', {}, { typ: undefined }],
  ['with alg none', 'dbsc_algorithm', {}, { alg: 'none' }],
  ['with alg HS256', 'dbsc_algorithm', {}, { alg: 'HS256' }],
  ['with another algorithm of the library', 'dbsc_algorithm', {}, { alg: 'ES384' }],
  ['with the algorithm of another key type', 'dbsc_algorithm', {}, { alg: 'RS256' }],
  ['with crit', 'dbsc_malformed', {}, { crit: ['exp'] }],
  ['with an unknown challenge', 'dbsc_challenge', { jti: 'guessed' }, {}],
  ['without jti', 'dbsc_challenge', { jti: undefined }, {}],
  ['with a list of challenges', 'dbsc_challenge', { jti: ['challenge'] }, {}],
  ['for another endpoint', 'dbsc_audience', { aud: 'https://evil.example/dbsc/refresh' }, {}],
  ['with a list of audiences', 'dbsc_audience', { aud: [expected.audience] }, {}],
]

for (const [title, code, claims, header] of brokenAlways) {
  test(`rejects a registration ${title}`, async (t) => {
    const proof = registrationProof({ ...claims }, { ...header })
    await refused(t, code, () => verifyDbscRegistration(proof, expected))
  })
  test(`rejects a refresh ${title}`, async (t) => {
    const proof = refreshProof({ ...claims }, { ...header })
    await refused(t, code, () => verifyDbscRefresh(proof, key, expected))
  })
}

const brokenRegistrations: [title: string, code: Code, proof: () => string][] = [
  ['without a key', 'dbsc_key', () => registrationProof({}, { jwk: undefined })],
  ['with a private key', 'dbsc_key', () => registrationProof({}, { jwk: deviceKey.privateJwk })],
  [
    'with a point off its curve',
    'dbsc_key',
    () => registrationProof({}, { jwk: { ...deviceKey.publicJwk, y: deviceKey.publicJwk.x } }),
  ],
  [
    'signed by another key than it shows',
    'dbsc_signature',
    () => registrationProof({}, { jwk: makeKey().publicJwk }),
  ],
]

for (const [title, code, proof] of brokenRegistrations) {
  test(`rejects a registration ${title}`, async (t) => {
    await refused(t, code, () => verifyDbscRegistration(proof(), expected))
  })
}

for (const authorization of [undefined, 'another', 7]) {
  test(`rejects a registration with the authorization ${authorization}`, async (t) => {
    const proof = registrationProof({ authorization })
    await refused(t, 'dbsc_authorization', () => verifyDbscRegistration(proof, authorized))
  })
}

test('rejects an authorization that nobody offered', async (t) => {
  const proof = registrationProof({ authorization: 'ticket' })
  await refused(t, 'dbsc_authorization', () => verifyDbscRegistration(proof, expected))
})

test('rejects a refresh by another key', async (t) => {
  const proof = refreshProof({}, {}, makeKey())
  await refused(t, 'dbsc_signature', () => verifyDbscRefresh(proof, key, expected))
})

test('rejects a refresh that brings a key', async (t) => {
  await refused(t, 'dbsc_key', () => verifyDbscRefresh(registrationProof(), key, expected))
})

test('rejects a refresh by a good algorithm that is not that of the session', async (t) => {
  const proof = refreshProof({}, {}, makeKey('RS256'))
  await refused(t, 'dbsc_algorithm', () => verifyDbscRefresh(proof, key, expected))
})

test('rejects a missing proof', async (t) => {
  await refused(t, 'dbsc_missing', () => verifyDbscRefresh(undefined, key, expected))
})

test('rejects an overlong proof', async (t) => {
  const proof = refreshProof({ pad: 'x'.repeat(8192) })
  await refused(t, 'dbsc_too_large', () => verifyDbscRefresh(proof, key, expected))
})

for (const [title, change] of [
  ['no JWT', () => 'proof'],
  ['two of them', (proof) => `${proof}, ${proof}`],
  ['one quote short', (proof) => `"${proof}`],
  ['not JSON', (proof) => proof.replace(/\.[^.]+\./, '.AAAA.')],
] as [string, (proof: string) => string][]) {
  test(`rejects a proof that is ${title}`, async (t) => {
    await refused(t, 'dbsc_malformed', () =>
      verifyDbscRefresh(change(refreshProof()), key, expected),
    )
  })
}

test('reads header fields quoted and bare', (t) => {
  t.is(parseDbscHeader('abc'), 'abc')
  t.is(parseDbscHeader(' "abc" '), 'abc')
  t.is(parseDbscHeader('"a\\"b\\\\c";x=1'), 'a"b\\c')
  for (const bad of [undefined, '', '""', '"a', 'a, b', '"a", "b"', '"a\\n"', 'a b', '"ä"']) {
    t.is(parseDbscHeader(bad), undefined, bad)
  }
})
