import test from 'ava'
import { createDPoPNonces } from '../../packages/verify/dpop-nonce.ts'
import { refused } from '../support/verify/refused.ts'
import {
  accessToken,
  dpopProof,
  dpopRequest,
  start,
  verifierWith,
} from '../support/verify/world.ts'

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
  t.throws(() => createDPoPNonces({ secrets: [secret], lifetime: 0 }), { instanceOf: TypeError })
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
