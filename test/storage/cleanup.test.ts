import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import pg from 'pg'
import {
  type ArtifactTable,
  artifactKey,
  createArtifactTable,
} from '../../src/storage/artifact-table.ts'
import { type Cleaned, type CleanupOptions, startCleanup } from '../../src/storage/cleanup.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { type ExpiringRows, expiringRows } from '../../src/storage/expiring-rows.ts'
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
    removeExpired: (limit: number, from?: string) => artifacts.removeExpired(limit, from),
    countExpired: (limit: number) => artifacts.countExpired(limit),
  },
  replay_marks: {
    add: (expiresAt: number) => replays.recordReplay('client', randomUUID(), expiresAt),
    removeExpired: (limit: number, from?: string) => replays.removeExpired(limit, from),
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
    const { rows, until } = await removeExpired(100)
    t.is(rows, 2)
    t.is(Math.round(Date.parse(until ?? '') / 1000), Math.round(past))
    t.deepEqual(await removeExpired(100, until), { rows: 0, until: undefined })
    t.is(await count(name), 1)
  })

  test.serial(`removes no more rows of ${name} than its limit`, async (t) => {
    for (let row = 0; row < 5; row += 1) await add(past)
    t.is((await removeExpired(2)).rows, 2)
    t.is(await count(name), 3)
  })

  test.serial(`removes the oldest rows of ${name} first, from a given one on`, async (t) => {
    for (const age of [1, 3, 2]) await add(past - age)
    const { until = '' } = await removeExpired(1)
    t.is(Math.round(Date.parse(until) / 1000), Math.round(past - 3))
    await add(past - 4)
    t.is((await removeExpired(100, until)).rows, 2)
    t.is((await removeExpired(100)).rows, 1)
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
    t.is((await removeExpired(100)).rows, 2)
    await other.query('rollback')
    await other.end()
    t.is((await removeExpired(100)).rows, 1)
  })
}

const removed = (rows: number) => ({ rows, until: rows > 0 ? `until ${rows}` : undefined })

/** A table that answers each removal by the next of `answers`, and then by nothing to remove. */
function scripted(...answers: (number | Error)[]) {
  const limits: number[] = []
  const begun: (string | undefined)[] = []
  const calls = new EventTarget()
  return {
    table: 'scripted',
    countExpired: async () => 7,
    limits,
    begun,
    called: () => once(calls, 'called'),
    async removeExpired(limit: number, from?: string) {
      limits.push(limit)
      begun.push(from)
      calls.dispatchEvent(new Event('called'))
      const answer = answers.shift() ?? 0
      if (typeof answer !== 'number') throw answer
      return removed(answer)
    },
  } satisfies ExpiringRows & Record<string, unknown>
}

/** A table with more expired rows than anyone removes. */
function endless() {
  let batches = 0
  return {
    table: 'endless',
    countExpired: async () => 12,
    batches: () => batches,
    async removeExpired(limit: number) {
      batches += 1
      return removed(limit)
    },
  }
}

const never = 2 ** 31 - 1

const ignored = () => {}

/** A cleanup that loses no time between two batches. */
function start(
  t: ExecutionContext,
  tables: readonly ExpiringRows[],
  options: Partial<CleanupOptions> = {},
) {
  return startCleanup({
    tables,
    interval: never,
    onCleaned: ignored,
    onError: (error) => t.fail(String(error)),
    sleep: async () => {
      await setImmediate()
    },
    ...options,
  })
}

test('removes batch after batch until one is not full, each from where the last ended', async (t) => {
  const table = scripted(1000, 1000, 3, 1000)
  const cleanup = start(t, [table])
  while (table.limits.length < 3) await table.called()
  await cleanup[Symbol.asyncDispose]()
  t.deepEqual(table.limits, [1000, 1000, 1000])
  t.deepEqual(table.begun, [undefined, 'until 1000', 'until 1000'])
})

test('begins a round where the last one ended, and each sixtieth with the oldest row', async (t) => {
  const table = scripted(3)
  const cleanup = start(t, [table], { interval: 1 })
  while (table.limits.length < 61) await table.called()
  await cleanup[Symbol.asyncDispose]()
  const fromTheOldest = table.begun.flatMap((from, round) => (from === undefined ? [round] : []))
  t.deepEqual(fromTheOldest, [0, 60])
})

test('drains a backlog of one table while the others have their turns', async (t) => {
  const behind = endless()
  const last = scripted(1000, 1000, 1)
  const reported: Cleaned[] = []
  const cleanup = start(t, [behind, last], { onCleaned: (cleaned) => reported.push(cleaned) })
  while (last.limits.length < 3) await last.called()
  while (behind.batches() < 100) await setImmediate()
  await cleanup[Symbol.asyncDispose]()
  t.deepEqual(
    reported.map(({ table, removed }) => ({ table, removed })),
    [{ table: 'scripted', removed: 2001 }],
  )
})

test('reports a failure, and continues with the other tables', async (t) => {
  const broken = new Error('broken')
  const reported: unknown[] = []
  const healthy = scripted(1000)
  const onError = (error: unknown, table: string) => reported.push([error, table])
  const cleanup = start(t, [scripted(broken), healthy], { onError })
  while (healthy.limits.length < 2) await healthy.called()
  await cleanup[Symbol.asyncDispose]()
  t.deepEqual(reported, [[broken, 'scripted']])
})

test('tries again in the next round after a failure, whatever another table has left', async (t) => {
  const broken = new Error('broken')
  const reported: unknown[] = []
  const table = scripted(broken, broken, 3)
  const onError = (error: unknown) => reported.push(error)
  const cleanup = start(t, [endless(), table], { interval: 1, onError })
  while (table.limits.length < 3) await table.called()
  await cleanup[Symbol.asyncDispose]()
  t.deepEqual(reported, [broken, broken])
})

test('removes one batch at a time, and pauses for three times as long as it took', async (t) => {
  let time = 0
  let running = 0
  let most = 0
  const pauses: number[] = []
  const slow = {
    table: 'slow',
    countExpired: async () => 0,
    async removeExpired() {
      running += 1
      most = Math.max(most, running)
      await setImmediate()
      time += 40
      running -= 1
      return removed(1000)
    },
  }
  const cleanup = start(t, [slow, slow], {
    interval: 1,
    now: () => time,
    async sleep(ms) {
      pauses.push(ms)
      await setImmediate()
    },
  })
  while (pauses.length < 10) await setImmediate()
  await cleanup[Symbol.asyncDispose]()
  t.is(most, 1)
  t.deepEqual([...new Set(pauses)], [120])
})

test('ends after the batch that is running, and starts no more', async (t) => {
  const table = endless()
  const cleanup = start(t, [table], {
    interval: 1,
    async sleep(_ms, signal) {
      if (!signal.aborted) await once(signal, 'abort')
    },
  })
  while (table.batches() < 1) await setImmediate()
  await cleanup[Symbol.asyncDispose]()
  for (let turn = 0; turn < 100; turn += 1) await setImmediate()
  t.is(table.batches(), 1)
})

test('reports what was done to each table, and once an interval what is left of a backlog', async (t) => {
  let time = 0
  const reported: Cleaned[] = []
  const cleanup = start(t, [scripted(1000, 3), endless(), { ...scripted(), table: 'empty' }], {
    now: () => time,
    onCleaned: (cleaned) => reported.push(cleaned),
    async sleep() {
      await setImmediate()
      time += never / 4
    },
  })
  while (reported.length < 3) await setImmediate()
  await cleanup[Symbol.asyncDispose]()
  t.deepEqual(reported.slice(0, 3), [
    { table: 'empty', removed: 0, seconds: 0, backlog: 0 },
    { table: 'scripted', removed: 1003, seconds: 0, backlog: 0 },
    { table: 'endless', removed: 2000, seconds: 0, backlog: 12 },
  ])
})

test.serial('two nodes drain a backlog together, without waiting for each other', async (t) => {
  await database.query({
    text: `insert into replay_marks (id, expires_at)
           select sha256(n::text::bytea), now() - interval '1 hour' + make_interval(secs => n / 100)
             from generate_series(1, 20000) as n`,
  })
  const done = new Map<string, number>()
  const drained = Promise.withResolvers<void>()
  const nodes = ['one', 'other'].map((node) =>
    start(t, [replays], {
      onCleaned({ removed, backlog }) {
        done.set(node, removed)
        t.is(backlog, 0)
        if (done.size === 2) drained.resolve()
      },
    }),
  )
  await drained.promise
  for (const node of nodes) await node[Symbol.asyncDispose]()
  t.is(await count('replay_marks'), 0)
  const [one = 0, other = 0] = done.values()
  t.is(one + other, 20_000)
})

test.serial(
  'removes expired rows of a partitioned table, and none at the same place',
  async (t) => {
    await database.query({
      text: 'create table parts (id int, expires_at timestamptz) partition by list (id)',
    })
    for (const id of [0, 1]) {
      await database.query({
        text: `create table parts_${id} partition of parts for values in (${id})`,
      })
      // Each is the first row of its part.
      await database.query({
        text: 'insert into parts values ($1, to_timestamp($2))',
        values: [id, [past, future][id]],
      })
    }
    const parts = expiringRows(database, { table: 'parts', column: 'expires_at', before: 'now()' })
    t.is((await parts.removeExpired(10)).rows, 1)
    const { rows } = await database.query({ text: 'select id from parts' })
    t.deepEqual(rows, [{ id: 1 }])
  },
)
