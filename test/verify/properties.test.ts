import test from 'ava'
import fc from 'fast-check'
import { VerifyError } from '../../packages/verify/errors.ts'
import type { VerifyRequest } from '../../packages/verify/verifier.ts'
import { fuzz, targets } from '../fuzz/verify.ts'
import {
  accessToken,
  clientKey,
  dpopProof,
  dpopRequest,
  issuerKey,
  url,
  verifierWith,
} from '../support/verify/fixtures.ts'
import { signJws } from '../support/verify/keys.ts'

const everywhere = { tokenLocations: ['header', 'body', 'query'], allowBearer: true } as const
const verifier = verifierWith(everywhere)

/** What became of a request: its refusal's code, or `accepted`. Any other error fails the test. */
async function outcome(request: VerifyRequest): Promise<string> {
  try {
    await verifier.verify(request)
    return 'accepted'
  } catch (error) {
    if (error instanceof VerifyError) return error.code
    throw error
  }
}

const text = fc.string({ unit: 'binary', maxLength: 60 })
const fields = fc.constantFrom('Authorization', 'DPoP', 'Content-Type', 'authorization', 'X-Other')
const values = fc.oneof(
  text,
  fc.constantFrom('Bearer', 'DPoP ', `DPoP ${accessToken()}`, dpopProof(accessToken())),
  text.map((token) => `Bearer ${token}`),
  fc.array(text, { maxLength: 5 }).map((parts) => `DPoP ${parts.join('.')}`),
)
const members = fc.dictionary(
  fc.constantFrom(
    ...['typ', 'alg', 'kid', 'jwk', 'crit', 'iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti'],
    ...['cnf', 'htm', 'htu', 'ath', 'nonce', 'scope', 'client_id', '__proto__', 'constructor'],
  ),
  fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom('ES256', 'none', { jkt: 1 }, clientKey.publicJwk, { kty: 'EC', crv: 'P-256' }),
  ),
  { maxKeys: 6 },
)

test('no request makes the verifier throw anything but a VerifyError', async (t) => {
  const requests = fc.record({
    method: fc.oneof(fc.constantFrom('GET', 'POST'), text),
    url: fc.oneof(
      fc.webUrl(),
      text,
      text.map((query) => `/?access_token=${query}`),
    ),
    headers: fc.oneof(
      fc.array(fc.tuple(fields, values), { maxLength: 5 }),
      fc.array(fc.tuple(fields, values), { maxLength: 5 }).map((pairs) => pairs.flat()),
      fc.dictionary(fields, fc.array(values, { maxLength: 3 })),
    ),
    body: fc.oneof(text, fc.dictionary(fc.constantFrom('access_token', 'a'), fc.anything())),
  })
  await fc.assert(
    fc.asyncProperty(requests, async (request) => {
      t.not(await outcome(request as VerifyRequest), 'accepted')
    }),
    { numRuns: 1500 },
  )
})

test('every public function rejects mutated inputs with its own errors only', async (t) => {
  const report = await fuzz(10_000, 1)
  t.is(Object.keys(report).length, targets.length)
  for (const [name, { accepted, refused }] of Object.entries(report)) {
    t.true(accepted + refused > 500, name)
  }
  // The inputs are near enough to valid ones to reach the last check.
  for (const name of ['verifyDPoPProof', 'verifyDbscRefresh', 'verifyIdToken']) {
    t.true((report[name]?.accepted ?? 0) > 0 && (report[name]?.refused ?? 0) > 0, name)
  }
})

test('no signed content makes the verifier throw anything but a VerifyError', async (t) => {
  const property = fc.asyncProperty(members, members, members, members, async (a, b, c, d) => {
    const token = accessToken(b, a)
    const proof = dpopProof(token, d, c)
    await outcome(dpopRequest(token, proof))
    const bare = signJws(issuerKey, { ...a, alg: 'ES256', typ: 'at+jwt' }, b)
    await outcome(dpopRequest(bare, signJws(clientKey, c, d)))
  })
  await t.notThrowsAsync(fc.assert(property, { numRuns: 700 }))
})

test('no change to a valid token or proof is accepted', async (t) => {
  const characters = fc.constantFrom(...'ABab01-_.=+/ ,\u00e4'.split(''))
  const change = fc.record({ part: fc.constantFrom('token', 'proof'), at: fc.nat(), characters })
  await fc.assert(
    fc.asyncProperty(change, async ({ part, at, characters: character }) => {
      const token = accessToken()
      const proof = dpopProof(token)
      const original = part === 'token' ? token : proof
      const index = at % original.length
      fc.pre(original[index] !== character)
      const changed = original.slice(0, index) + character + original.slice(index + 1)
      const request = part === 'token' ? dpopRequest(changed, proof) : dpopRequest(token, changed)
      t.not(await outcome(request), 'accepted')
    }),
    { numRuns: 700 },
  )
})

test('no other method, path or credential is accepted with a valid proof', async (t) => {
  const token = accessToken()
  const other = accessToken()
  const changes = fc.oneof(
    fc.string({ unit: 'grapheme-ascii', minLength: 1 }).map((method) => ({ method })),
    fc.webPath().map((url) => ({ url })),
    fc.constant({ headers: ['Authorization', `DPoP ${other}`, 'DPoP', dpopProof(token)] }),
    fc.constant({ headers: ['Authorization', `Bearer ${token}`, 'DPoP', dpopProof(token)] }),
  )
  await fc.assert(
    fc.asyncProperty(changes, async (change) => {
      const request = { ...dpopRequest(token), ...change }
      const same = request.method === 'GET' && request.url.split(/[?#]/)[0] === url.split('?')[0]
      fc.pre(!same || 'headers' in change)
      t.not(await outcome(request), 'accepted')
    }),
    { numRuns: 500 },
  )
})
