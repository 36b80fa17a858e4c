import { randomBytes } from 'node:crypto'
import test from 'ava'
import { createSealedState } from '../../src/engine/sealed-state.ts'

const key = randomBytes(32)
const until = 1_000
const at = (seconds: number, keys: readonly Uint8Array[] = [key], purpose = 'interaction') =>
  createSealedState(purpose, { keys: () => keys, now: () => seconds * 1000 })
const sealed = at(0).seal('owner', { state: 'the state' }, until)

test('opens what was sealed, with an older key as well', (t) => {
  t.deepEqual(at(999).open('owner', sealed), { state: 'the state' })
  t.deepEqual(at(999, [randomBytes(32), key]).open('owner', sealed), { state: 'the state' })
})

for (const [title, open] of [
  ['another owner', () => at(0).open('other', sealed)],
  ['another purpose', () => at(0, [key], 'session').open('owner', sealed)],
  ['another key', () => at(0, [randomBytes(32)]).open('owner', sealed)],
  ['a time after its end', () => at(1_000).open('owner', sealed)],
  ['a changed salt', () => at(0).open('owner', (sealed[0] === 'A' ? 'B' : 'A') + sealed.slice(1))],
  ['a cut text', () => at(0).open('owner', sealed.slice(0, -4))],
  ['an empty text', () => at(0).open('owner', '')],
] as const) {
  test(`opens nothing for ${title}`, (t) => t.is(open(), undefined))
}

test('seals in no more than the text takes, and never twice alike', (t) => {
  t.not(at(0).seal('owner', { state: 'the state' }, until), sealed)
  t.true(at(0).seal('owner', { state: 'x'.repeat(60_000) }, until).length < 1_000)
})
