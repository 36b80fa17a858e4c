import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import test from 'ava'
import pg from 'pg'
import {
  type ArtifactTable,
  artifactKey,
  createArtifactTable,
} from '../../src/storage/artifact-table.ts'
import { type Cleaned, startCleanup } from '../../src/storage/cleanup.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import type { ExpiringRows } from '../../src/storage/expiring-rows.ts'
import { createReplayTable, type ReplayTable } from '../../src/storage/replay-table.ts'
import { useTestDatabase } from '../support/database.ts'

const url = useTestDatabase(test)

let database: Database
let artifacts: ArtifactTable
let replays: ReplayTable
test.serial.before(async () => {
  database = await openDatabase(url.url, { onError: () => {} })
  artifacts = createArtifactTable(database)
  replays = createReplayTable(database)
})
test.after.always('closes the pool', () => database?.[Symbol.asyncDispose]())
test.serial.beforeEach(async () => {
  await database.query({ text: 'truncate artifacts, replay_marks' })
})

const noon = Date.now() / 1000
const [past, future] = [noon - 600, noon + 600]

const tables = {
  artifacts: {
    add: (expiresAt: number) =>
      artifacts.write({
        ...artifactKey('AccessToken', randomUUID()),
        grantId: undefined,
        uid: undefined,
        accountId: undefined,
        sessionUid: undefined,
        payload: {},
        expiresAt,
      }),
    removeExpired: (limit: number) => artifacts.removeExpired(limit),
    countExpired: (limit: number) => artifacts.countExpired(limit),
  },
  replay_marks: {
    add: (expiresAt: number) => replays.recordReplay('client', randomUUID(), expiresAt),
    removeExpired: (limit: number) => replays.removeExpired(limit),
    countExpired: (limit: number) => replays.countExpired(limit),
  },
}

async function count(name: string): Promise<number> {
  const { rows } = await database.query<{ count: number }>({
    text: `select count(*)::int as count from ${name}`,
  })
  return rows[0]?.count ?? 0
}

for (const [name, { add, removeExpired, countExpired }] of Object.entries(tables)) {
  test.serial(`removes expired rows of ${name} and no others`, async (t) => {
    for (const expiresAt of [past, past, future]) await add(expiresAt)
    t.is(await removeExpired(100), 2)
    t.is(await removeExpired(100), 0)
    t.is(await count(name), 1)
  })

  test.serial(`removes no more rows of ${name} than its limit`, async (t) => {
    for (let row = 0; row < 5; row += 1) await add(past)
    t.is(await removeExpired(2), 2)
    t.is(await count(name), 3)
  })

  test.serial(`counts expired rows of ${name}, up to a limit`, async (t) => {
    for (const expiresAt of [past, past, past, future]) await add(expiresAt)
    t.is(await countExpired(100), 3)
    t.is(await countExpired(2), 2)
  })

  test.serial(`passes over rows of ${name} that are locked`, async (t) => {
    for (let row = 0; row < 3; row += 1) await add(past)
    const other = new pg.Client({ connectionString: url.url })
    await other.connect()
    await other.query('begin')
    await other.query(`select from ${name} limit 1 for update`)
    t.is(await removeExpired(100), 2)
    await other.query('rollback')
    await other.end()
    t.is(await removeExpired(100), 1)
  })
}

/** A table that answers each removal by the next of `answers`, and then by nothing to remove. */
function scripted(...answers: (number | Error)[]) {
  const limits: number[] = []
  const calls = new EventTarget()
  return {
    table: 'scripted',
    countExpired: async () => 7,
    limits,
    called: () => once(calls, 'called'),
    async removeExpired(limit: number) {
      limits.push(limit)
      calls.dispatchEvent(new Event('called'))
      const answer = answers.shift() ?? 0
      if (typeof answer !== 'number') throw answer
      return answer
    },
  } satisfies ExpiringRows & Record<string, unknown>
}

const never = 2 ** 31 - 1

const ignored = () => {}

test('removes batch after batch until one is not full', async (t) => {
  const table = scripted(1000, 1000, 3, 1000)
  const cleanup = startCleanup({
    onCleaned: ignored,
    tables: [table],
    interval: never,
    onError: (error) => t.fail(String(error)),
  })
  while (table.limits.length < 3) await table.called()
  await cleanup[Symbol.asyncDispose]()
  t.deepEqual(table.limits, [1000, 1000, 1000])
})

test('leaves what is too much for one round to the next', async (t) => {
  let batches = 0
  const last = scripted()
  const endless = {
    table: 'endless',
    countExpired: async () => 12,
    async removeExpired(limit: number) {
      batches += 1
      return limit
    },
  }
  const cleanup = startCleanup({
    onCleaned: ignored,
    tables: [endless, last],
    interval: never,
    onError: (error) => t.fail(String(error)),
  })
  await last.called()
  await cleanup[Symbol.asyncDispose]()
  t.is(batches, 50)
})

test('reports a failure, and continues with the other tables', async (t) => {
  const broken = new Error('broken')
  const reported: unknown[] = []
  const healthy = scripted()
  const cleanup = startCleanup({
    onCleaned: ignored,
    tables: [scripted(broken), healthy],
    interval: never,
    onError: (error) => reported.push(error),
  })
  if (healthy.limits.length === 0) await healthy.called()
  await cleanup[Symbol.asyncDispose]()
  t.deepEqual(reported, [broken])
})

test('tries again in the next round after a failure', async (t) => {
  const broken = new Error('broken')
  const reported: unknown[] = []
  const table = scripted(broken, broken, 3)
  const cleanup = startCleanup({
    onCleaned: ignored,
    tables: [table],
    interval: 1,
    onError: (error) => reported.push(error),
  })
  while (table.limits.length < 3) await table.called()
  await cleanup[Symbol.asyncDispose]()
  t.deepEqual(reported, [broken, broken])
})

test('does not begin a round before the last one has ended', async (t) => {
  let running = 0
  let most = 0
  let rounds = 0
  const slow = {
    table: 'slow',
    countExpired: async () => 0,
    async removeExpired() {
      running += 1
      most = Math.max(most, running)
      for (let turn = 0; turn < 20; turn += 1) await once(AbortSignal.timeout(1), 'abort')
      running -= 1
      rounds += 1
      return 0
    },
  }
  const cleanup = startCleanup({
    onCleaned: ignored,
    tables: [slow],
    interval: 1,
    onError: (error) => t.fail(String(error)),
  })
  while (rounds < 3) await once(AbortSignal.timeout(1), 'abort')
  await cleanup[Symbol.asyncDispose]()
  t.is(most, 1)
})

test('ends after the batch that is running, and starts no more', async (t) => {
  const table = scripted(1000, 1000, 1000)
  const cleanup = startCleanup({
    onCleaned: ignored,
    tables: [table],
    interval: 1,
    onError: (error) => t.fail(String(error)),
  })
  await cleanup[Symbol.asyncDispose]()
  const { length } = table.limits
  t.true(length <= 1)
  await once(AbortSignal.timeout(20), 'abort')
  t.is(table.limits.length, length)
})

test('tells what a round has done to each table, and what it has left', async (t) => {
  const told: Cleaned[] = []
  const endless = {
    table: 'endless',
    removeExpired: async (limit: number) => limit,
    countExpired: async () => 12,
  }
  const last = Promise.withResolvers<void>()
  const cleanup = startCleanup({
    tables: [scripted(1000, 3), endless, { ...scripted(), table: 'empty' }],
    interval: never,
    onCleaned(cleaned) {
      told.push(cleaned)
      if (cleaned.table === 'empty') last.resolve()
    },
    onError: (error) => t.fail(String(error)),
  })
  await last.promise
  await cleanup[Symbol.asyncDispose]()
  t.deepEqual(
    told.map(({ seconds, ...rest }) => ({ ...rest, took: seconds >= 0 })),
    [
      { table: 'scripted', removed: 1003, backlog: 0, took: true },
      { table: 'endless', removed: 50_000, backlog: 12, took: true },
      { table: 'empty', removed: 0, backlog: 0, took: true },
    ],
  )
})

test('says which table failed', async (t) => {
  const failed = Promise.withResolvers<string>()
  const cleanup = startCleanup({
    tables: [scripted(new Error('broken'))],
    interval: never,
    onCleaned: () => t.fail(),
    onError: (_error, table) => failed.resolve(table),
  })
  t.is(await failed.promise, 'scripted')
  await cleanup[Symbol.asyncDispose]()
})
