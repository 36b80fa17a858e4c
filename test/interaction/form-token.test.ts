import test from 'ava'
import { formToken, isFormToken } from '../../src/interaction/form-token.ts'

const key = Buffer.alloc(32, 1)
const token = formToken(key, 'uid-1')

test('knows its own token', (t) => {
  t.true(isFormToken(key, 'uid-1', token))
})

for (const [title, underKey, uid, given] of [
  ['of another interaction', key, 'uid-2', token],
  ['under another key', Buffer.alloc(32, 2), 'uid-1', token],
  ['that is empty', key, 'uid-1', ''],
  ['that was cut', key, 'uid-1', token.slice(0, -1)],
  ['of as many characters and more bytes', key, 'uid-1', 'é'.repeat(token.length)],
] as const) {
  test(`refuses a token ${title}`, (t) => {
    t.false(isFormToken(underKey, uid, given))
  })
}
