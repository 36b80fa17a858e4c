import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import {
  createTokenBindingVerifier,
  parseTokenBindingId,
  TokenBindingError,
  type TokenBindingProof,
  verifyTokenBinding,
} from '../../packages/verify/token-binding.ts'
import { readTokenBindingHeaders } from '../../packages/verify/token-binding-headers.ts'
import { binding, ekm, makeEcKey, makeRsaKey, message } from '../support/token-binding-messages.ts'

const connection = { negotiated: 'ecdsap256', ekm } as const
const bindings = [
  binding(makeEcKey(), { extensions: Buffer.from('c80003616263', 'hex') }),
  binding(makeRsaKey(1), { type: 1 }),
  binding(makeRsaKey(0), { type: 9 }),
  binding(makeEcKey(), { type: 77 }),
]
const text = message(...bindings)
const bytes = Buffer.from(text, 'base64url')
const accepted = verifyTokenBinding(text, connection)

/** The decision, or undefined for a refusal; anything but a TokenBindingError fails the test. */
function decide(candidate: string): TokenBindingProof | undefined {
  try {
    return verifyTokenBinding(candidate, connection)
  } catch (error) {
    if (error instanceof TokenBindingError) return undefined
    throw error
  }
}

/**
 * Nothing proven beyond what was proven before. A referred or an unknown binding may drop out where
 * the change made its key one of a kind that cannot be checked: nothing can be bound to it then.
 */
function sameOrLess(t: ExecutionContext, decision: TokenBindingProof): void {
  t.deepEqual(decision.provided, accepted.provided)
  if (decision.referred !== 'unsupported') t.deepEqual(decision.referred, accepted.referred)
  for (const { type, id } of decision.other) {
    t.true(accepted.other.some((known) => known.type === type && known.id === id))
  }
}

test('every truncation is refused', (t) => {
  for (let length = 0; length < bytes.length; length += 1) {
    t.is(decide(bytes.subarray(0, length).toString('base64url')), undefined)
  }
  for (let length = 0; length < text.length; length += 1) {
    t.is(decide(text.slice(0, length)), undefined)
  }
})

test('every bit flip is the same decision or a refusal', (t) => {
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const flipped = Buffer.from(bytes)
    flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
    const decision = decide(flipped.toString('base64url'))
    if (decision !== undefined) sameOrLess(t, decision)
  }
  t.pass()
})

test('every order of the bindings is the same decision', (t) => {
  const order = fc.shuffledSubarray(bindings, { minLength: bindings.length })
  const property = fc.property(order, (shuffled) => {
    const decision = decide(message(...shuffled))
    t.is(decision?.other.length, accepted.other.length)
    t.deepEqual(decision?.referred, accepted.referred)
    if (decision) sameOrLess(t, decision)
  })
  t.notThrows(() => fc.assert(property, { numRuns: 24 }))
})

test('no selection or repetition of bindings gives other IDs than those that were proven', (t) => {
  const selection = fc.array(fc.constantFrom(...bindings), { maxLength: 6 })
  const property = fc.property(selection, (chosen) => {
    const decision = decide(message(...chosen))
    const count = (which: Buffer | undefined) => chosen.filter((item) => item === which).length
    const valid = count(bindings[0]) === 1 && count(bindings[1]) <= 1
    t.is(decision !== undefined, valid)
    if (decision) t.deepEqual(decision.provided, accepted.provided)
    if (decision?.referred) t.deepEqual(decision.referred, accepted.referred)
  })
  t.notThrows(() => fc.assert(property, { numRuns: 200 }))
})

test('several changes at once are the same decision or a refusal', (t) => {
  const change = fc.record({ at: fc.nat(bytes.length - 1), value: fc.nat(255) })
  const cut = fc.record({ at: fc.nat(bytes.length - 1), length: fc.integer({ min: 0, max: 8 }) })
  const property = fc.property(
    fc.array(change, { maxLength: 4 }),
    cut,
    (changes, { at, length }) => {
      const changed = Buffer.from(bytes)
      for (const { at: index, value } of changes) changed[index] = value
      const shorter = Buffer.concat([changed.subarray(0, at), changed.subarray(at + length)])
      const decision = decide(shorter.toString('base64url'))
      if (decision !== undefined) sameOrLess(t, decision)
    },
  )
  t.notThrows(() => fc.assert(property, { numRuns: 2000 }))
})

test('no text, and no list of texts, is an exception', (t) => {
  const wild = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({ unit: fc.constantFrom(...'AgBQ-_=+/ ,\n') }),
    fc.uint8Array({ maxLength: 400 }).map((array) => Buffer.from(array).toString('base64url')),
  )
  const property = fc.property(fc.array(wild, { maxLength: 3 }), (values) => {
    const names = ['Provided', 'Referred', 'Other']
    const rawHeaders = values.flatMap((value, index) => [
      `Sec-${names[index]}-Token-Binding-ID`,
      value,
    ])
    for (const run of [
      () => createTokenBindingVerifier(connection)(values),
      () => readTokenBindingHeaders(rawHeaders, { trusted: true }),
      () => values.map(parseTokenBindingId),
    ]) {
      try {
        run()
      } catch (error) {
        if (!(error instanceof TokenBindingError)) throw error
      }
    }
  })
  t.notThrows(() => fc.assert(property, { numRuns: 3000 }))
})
