import { randomUUID } from 'node:crypto'
import test from 'ava'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { createReplayTable, type ReplayTable } from '../../src/storage/replay-table.ts'
import { useTestDatabase } from '../support/database.ts'

const url = useTestDatabase(test)

let database: Database
let table: ReplayTable
test.serial.before(async () => {
  database = await openDatabase(url.url, { onError: () => {}, poolSize: 16 })
  table = createReplayTable(database)
})
test.after.always('closes the pool', () => database?.[Symbol.asyncDispose]())

const soon = () => Date.now() / 1000 + 60

test('takes a value once', async (t) => {
  const value = randomUUID()
  t.true(await table.markOnce('client', value, soon()))
  t.false(await table.markOnce('client', value, soon()))
})

test('takes the same value of another issuer', async (t) => {
  const value = randomUUID()
  t.true(await table.markOnce('client', value, soon()))
  t.true(await table.markOnce('another client', value, soon()))
})

test('takes a value once of 16 concurrent times', async (t) => {
  const value = randomUUID()
  const marks = await Promise.all(
    Array.from({ length: 16 }, () => table.markOnce('client', value, soon())),
  )
  t.is(marks.filter(Boolean).length, 1)
})

test('no two pairs of issuer and value are one', async (t) => {
  const pairs = [
    ['ab', 'c'],
    ['a', 'bc'],
    ['', 'abc'],
    ['abc', ''],
    ['1:a', 'b'],
    ['1', ':ab'],
    ['2:ab', 'c'],
    ['a\0', 'b'],
    ['a', '\0b'],
    ['aa', '3:b'],
  ] as const
  for (const [issuer, value] of pairs) t.true(await table.markOnce(issuer, value, soon()))
  for (const [issuer, value] of pairs) t.false(await table.markOnce(issuer, value, soon()))
})

test('takes values that are no text for PostgreSQL, and any length of them', async (t) => {
  for (const value of ['\0', '\ud800', 'x'.repeat(100_000)]) {
    t.true(await table.markOnce('odd client', value, soon()))
    t.false(await table.markOnce('odd client', value, soon()))
  }
})

test('keeps neither issuer nor value', async (t) => {
  await table.markOnce('a telling issuer', 'a telling value', soon())
  const { rows } = await database.query<{ row: string }>({
    text: 'select replay_marks::text as row from replay_marks',
  })
  t.true(rows.length > 0)
  for (const { row } of rows) t.notRegex(row, /telling/)
})

test('does not take a value again whose mark has ended and was not removed yet', async (t) => {
  const value = randomUUID()
  const past = Date.now() / 1000 - 60
  t.true(await table.markOnce('client', value, past))
  t.false(await table.markOnce('client', value, soon()))
})
