import { inspect } from 'node:util'
import test from 'ava'
import type { VerifierOptions } from '../../packages/verify/options.ts'
import { createVerifier } from '../../packages/verify/verifier.ts'
import { makeKey } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'
import {
  accessToken,
  audience,
  bearerRequest,
  dpopProof,
  dpopRequest,
  issuer,
  jkt,
  jwks,
  start,
  url,
  verifierWith,
} from '../support/verify/world.ts'

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

test('offers only DPoP where nothing else is accepted', async (t) => {
  const verifier = verifierWith({ methods: ['dpop'], dpop: { algorithms: ['ES256'] } })
  const error = await refused(t, 'dpop_token_leaked', () =>
    verifier.verify(bearerRequest(accessToken())),
  )
  t.deepEqual(error.challenges, [
    'DPoP error="invalid_token", error_description="DPoP-bound access token sent without DPoP scheme", algs="ES256"',
  ])
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
  ['methods', { methods: ['cookie'] }],
  ['methods', { methods: [] }],
  ['replicas', { replicas: 2 }],
  ['clockTolerance', { clockTolerance: -1 }],
  ['dpop.algorithms', { dpop: { algorithms: ['HS256'] } }],
  ['algorithms', { algorithms: ['none'] }],
  ['dpop.maxAge', { dpop: { maxAge: Number.NaN } }],
]

for (const [option, options] of contradictions) {
  test(`refuses to be made with ${inspect(options)}`, (t) => {
    const all = { issuer, audience, jwks, ...options } as VerifierOptions
    const error = t.throws(() => createVerifier(all), { instanceOf: TypeError })
    t.true(error?.message.includes(option), error?.message)
  })
}
