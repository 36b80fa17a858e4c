import { parseTokenBindingId } from '@holdfast/verify/token-binding'
import test from 'ava'
import { tokenBindingBinding } from '../../src/bindings/token-binding.ts'
import {
  type Challenge,
  decodeChallenge,
  encodeChallenge,
  isReferredChallenge,
  validateChallenge,
  verifiesChallenge,
} from '../../src/bindings/token-binding-challenge.ts'

const tbh = 'A'.repeat(43)
/** TokenBindingID of ecdsap256: type, length of the key, length of the point, the point. */
const id = Buffer.concat([Buffer.from([2, 0, 65, 64]), Buffer.alloc(64, 7)]).toString('base64url')
const referredTbh = parseTokenBindingId(id)?.tbh
const provided: Challenge = { method: 'TB-S256', challenge: tbh }
const referred: Challenge = { method: 'referred_tb', challenge: 'referred_tb' }

test('a challenge is the whole of what its method says', (t) => {
  t.deepEqual(validateChallenge('TB-S256', tbh), provided)
  t.deepEqual(validateChallenge('referred_tb', 'referred_tb'), referred)
  for (const [method, challenge] of [
    ['TB-S256', `${tbh}A`],
    ['TB-S256', `${tbh.slice(1)}B`],
    ['TB-S256', 'referred_tb'],
    ['referred_tb', tbh],
    ['S256', tbh],
    ['TB-S256', undefined],
  ]) {
    t.is(validateChallenge(method, challenge), undefined, `${method} ${challenge}`)
  }
})

test('a challenge survives its way through the engine', (t) => {
  for (const challenge of [provided, referred]) {
    const encoded = encodeChallenge(challenge)
    t.true(encoded.length >= 43)
    t.deepEqual(decodeChallenge(encoded), challenge)
    t.is(isReferredChallenge(encoded), challenge === referred)
  }
  t.is(decodeChallenge(tbh), undefined)
})

test('a provided challenge is verified by the key of the connection, and needs its verifier', (t) => {
  const verifies = (verifier: unknown, of: string | undefined) =>
    verifiesChallenge(provided, verifier, { provided: of, referredTbh: undefined })
  t.true(verifies('provided_tb', tbh))
  t.false(verifies('provided_tb', 'B'.repeat(43)))
  t.false(verifies('provided_tb', undefined))
  t.false(verifies(tbh, tbh))
})

test('a referred challenge is verified by the ID that the authorization request has shown', (t) => {
  t.truthy(referredTbh)
  const verifies = (verifier: unknown, of: string | undefined) =>
    verifiesChallenge(referred, verifier, { provided: undefined, referredTbh: of })
  t.true(verifies(id, referredTbh))
  t.false(verifies(id, tbh))
  t.false(verifies(id, undefined))
  t.false(verifies(undefined, referredTbh))
  t.false(verifies('no ID', undefined))
})

test('a successor is named by a SHA-256', (t) => {
  const refresh = { proofWindow: { pastS: 300, aheadS: 10 }, refreshToken: '', uri: '', now: 0 }
  t.deepEqual(tokenBindingBinding.readSuccessor(tbh, refresh), { key: tbh })
  t.true('problem' in tokenBindingBinding.readSuccessor('short', refresh))
})
