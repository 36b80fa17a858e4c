import { hash, randomBytes } from 'node:crypto'
import test from 'ava'
import { createUserCodes } from '../../src/engine/device-grant.ts'

const [old, current] = [randomBytes(32), randomBytes(32)]
const before = createUserCodes(() => [old])
const after = createUserCodes(() => [current, old])

test('a digest of a user code cannot be made without the key', (t) => {
  const digest = before.digest('BCDFGHJK')
  t.not(digest, createUserCodes(() => [randomBytes(32)]).digest('BCDFGHJK'))
  t.not(digest, hash('sha256', 'holdfast user code\0BCDFGHJK', 'base64url'))
})

test('a code that was made under the key before is found by the one after', (t) => {
  t.true(after.candidates('BCDFGHJK').includes(before.digest('BCDFGHJK')))
  t.is(after.candidates('BCDFGHJK')[0], after.digest('BCDFGHJK'))
})

test('codes that differ have digests that differ', (t) => {
  t.not(before.digest('BCDFGHJK'), before.digest('BCDFGHJL'))
})
