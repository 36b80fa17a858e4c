import test from 'ava'
import { createFormTokens } from '../../src/http/form-token.ts'

const [key, next, other] = [1, 2, 3].map((byte) => Buffer.alloc(32, byte)) as [
  Buffer,
  Buffer,
  Buffer,
]
const under = (...keys: Buffer[]) => createFormTokens(() => keys)
const token = under(key).make('uid-1')

test('knows its own token', (t) => {
  t.true(under(key).accepts('uid-1', token))
})

test('makes tokens with the first key, and knows those of the others', (t) => {
  t.is(under(key, next).make('uid-1'), token)
  t.not(under(next, key).make('uid-1'), token)
  t.true(under(next, key).accepts('uid-1', token))
})

test('goes by the keys of the moment', (t) => {
  const keys = [key]
  const forms = createFormTokens(() => keys)
  keys[0] = next
  t.is(forms.make('uid-1'), under(next).make('uid-1'))
  t.false(forms.accepts('uid-1', token))
})

for (const [title, keys, uid, given] of [
  ['of another interaction', [key], 'uid-2', token],
  ['under another key', [next, other], 'uid-1', token],
  ['that is empty', [key], 'uid-1', ''],
  ['that was cut', [key], 'uid-1', token.slice(0, -1)],
  ['of as many characters and more bytes', [key], 'uid-1', 'é'.repeat(token.length)],
] as const) {
  test(`refuses a token ${title}`, (t) => {
    t.false(under(...keys).accepts(uid, given))
  })
}
