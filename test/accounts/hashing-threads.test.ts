import { readdirSync, readFileSync } from 'node:fs'
import os from 'node:os'
import test from 'ava'
import { createHashingThreads } from '../../src/accounts/hashing-threads.ts'
import { defaultPasswordCost, hashPassword } from '../../src/accounts/password.ts'
import { cheapCost } from '../support/accounts.ts'

const tasks = () => readdirSync('/proc/self/task')

/** Threads of Node with a priority, but for those that were there: one that has ended lingers. */
const threadsSince = (before: readonly string[], priority: number) =>
  tasks().filter((thread) => {
    const text = readFileSync(`/proc/self/task/${thread}/stat`, 'utf8')
    const [name = '', fields = ''] = text.split(') ')
    const isOfNode = name.endsWith('(WorkerThread') && !before.includes(thread)
    return isOfNode && Number(fields.split(' ')[16]) === priority
  })

test.serial('hashes and verifies a password however its letters were composed', async (t) => {
  await using hashing = createHashingThreads()
  const hash = await hashing.hash('cafe\u0301 au lait noir', cheapCost)
  t.regex(hash, /^\$argon2id\$v=19\$m=8,t=1,p=1\$/)
  t.true(await hashing.verify(hash, 'caf\u00e9 au lait noir'))
  t.false(await hashing.verify(hash, 'cafe au lait noir'))
})

test.serial('rejects a malformed hash, and verifies the next one', async (t) => {
  await using hashing = createHashingThreads()
  await t.throwsAsync(hashing.verify('no password', 'correct horse battery'))
  const hash = await hashPassword('correct horse battery', cheapCost)
  t.true(await hashing.verify(hash, 'correct horse battery'))
})

test.serial('verifies a hash of another system', async (t) => {
  await using hashing = createHashingThreads()
  const bcrypt = '$2b$04$YdYY9Nvwv9P5ZK99jZDgZul9lPdI/lFgkg4L8aHBoWP5RpRtNr6XC'
  t.true(await hashing.verify(bcrypt, 'correct horse battery'))
  t.false(await hashing.verify(bcrypt, 'correct horse'))
})

const onLinux = process.platform === 'linux' ? test.serial : test.serial.skip

onLinux('starts a thread of a lower priority for each of those at once', async (t) => {
  const before = tasks()
  let started = 0
  const count = () => {
    started += 1
  }
  process.on('worker', count)
  t.teardown(() => process.off('worker', count))
  await using hashing = createHashingThreads()
  const lower = Math.min(19, os.getPriority() + 5)
  const hash = await hashPassword('correct horse battery', cheapCost)
  const verifyBoth = () =>
    Promise.all([1, 2].map(() => hashing.verify(hash, 'correct horse battery')))
  t.deepEqual(await verifyBoth(), [true, true])
  t.deepEqual(await verifyBoth(), [true, true])
  t.is(started, 2)
  // Test files are threads of one process, and another one may start such threads at this moment.
  t.true(threadsSince(before, lower).length >= 2)
})

test.serial('rejects what a thread that ends was working on', async (t) => {
  const hashing = createHashingThreads()
  const hashed = t.throwsAsync(hashing.hash('correct horse battery', defaultPasswordCost), {
    message: 'a thread that hashes passwords has ended',
  })
  await hashing[Symbol.asyncDispose]()
  await hashed
})
