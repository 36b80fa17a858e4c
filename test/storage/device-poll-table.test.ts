import { randomBytes } from 'node:crypto'
import test from 'ava'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { createDevicePollTable, type DevicePollTable } from '../../src/storage/device-poll-table.ts'
import { useTestDatabase } from '../support/database.ts'

const settings = useTestDatabase(test)
let database: Database
let table: DevicePollTable

test.before(async () => {
  database = await openDatabase(settings.url, { onError: () => {} })
  table = createDevicePollTable(database)
})
test.after.always(() => database?.[Symbol.asyncDispose]())

const until = () => Date.now() / 1000 + 60
const take = (id: Buffer) => table.take(id, { pause: 5, expiresAt: until() })

/** Puts the last request of a device into the past. */
const wait = (id: Buffer, seconds: number) =>
  database.query({
    text: 'update device_polls set due = due - make_interval(secs => $2) where id = $1',
    values: [id, seconds],
  })

test('the first one has waited long enough', async (t) => {
  t.true(await take(randomBytes(32)))
})

test('of sixteen at once one has', async (t) => {
  const id = randomBytes(32)
  const answers = await Promise.all(Array.from({ length: 16 }, () => take(id)))
  t.is(answers.filter(Boolean).length, 1)
})

test('who waits as told is never early', async (t) => {
  const id = randomBytes(32)
  for (let count = 0; count < 3; count += 1) {
    t.true(await take(id))
    await wait(id, 5)
  }
})

test('each early one makes the wait longer, for good', async (t) => {
  const id = randomBytes(32)
  await take(id)
  await wait(id, -60)
  t.false(await take(id))
  await wait(id, 4)
  t.false(await take(id))
  await wait(id, 14)
  t.true(await take(id))
  await wait(id, 4)
  t.false(await take(id))
})

test('another device is not affected', async (t) => {
  const id = randomBytes(32)
  await take(id)
  t.false(await take(id))
  t.true(await take(randomBytes(32)))
})

test('what has ended is removed', async (t) => {
  await table.take(randomBytes(32), { pause: 5, expiresAt: 0 })
  t.true((await table.removeExpired(10)) >= 1)
  t.is(await table.countExpired(10), 0)
})
