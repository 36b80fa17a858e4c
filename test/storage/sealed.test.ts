import test from 'ava'
import { seal, unseal } from '../../src/storage/sealed.ts'

const text = 'https://id.example.com/authorize/💧'

test('opens under the same identifier', (t) => {
  t.is(unseal('an identifier', seal('an identifier', text)), text)
  t.is(unseal('an identifier', seal('an identifier', '')), '')
})

test('does not open under another identifier', (t) => {
  t.throws(() => unseal('another identifier', seal('an identifier', text)))
})

test('does not open when a byte was changed or cut off', (t) => {
  const sealed = Buffer.from(seal('an identifier', text), 'base64url')
  for (const at of [0, 12, sealed.length - 1]) {
    const changed = Buffer.from(sealed)
    changed[at] = (changed[at] ?? 0) ^ 1
    t.throws(() => unseal('an identifier', changed.toString('base64url')))
  }
  t.throws(() => unseal('an identifier', sealed.subarray(0, -1).toString('base64url')))
  t.throws(() => unseal('an identifier', ''))
})

test('looks different each time', (t) => {
  t.not(seal('an identifier', text), seal('an identifier', text))
})
