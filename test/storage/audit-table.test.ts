import test from 'ava'
import pg from 'pg'
import { createAuditTable, detailsLimitBytes } from '../../src/storage/audit-table.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { StorageError } from '../../src/storage/storage-error.ts'
import { useTestDatabase } from '../support/database.ts'

const settings = useTestDatabase(test)
let database: Database

test.before(async () => {
  database = await openDatabase(settings.url, { onError: () => {} })
})
test.after.always(() => database?.[Symbol.asyncDispose]())

const row = (event: string, changes = {}) => ({ at: new Date(), event, details: {}, ...changes })

const age = (days: number) => new Date(Date.now() - days * 24 * 60 * 60 * 1000)

test('rows come back in their order, with everything that was said', async (t) => {
  const table = createAuditTable(database)
  // Younger than what the test below removes.
  const at = age(1)
  const said = {
    at,
    event: 'order',
    actor: 'cli',
    account: 'a',
    client: 'c',
    address: '192.0.2.7',
    requestId: 'r',
    details: { state: 'with U+0000: \u0000', list: [1] },
  }
  await table.append([said, row('order')])
  const [first, second] = await table.list({ event: 'order', limit: 10 })
  t.like(first, said)
  t.like(second, { event: 'order', actor: null, account: null, details: {} })
  t.true((first?.id ?? 0) < (second?.id ?? 0))
})

test('a list can be narrowed and gone on with', async (t) => {
  const table = createAuditTable(database)
  await table.append([
    row('narrow', { account: 'ada', at: age(2) }),
    row('narrow', { account: 'ada', client: 'app' }),
    row('narrow', { account: 'bob' }),
  ])
  const count = async (query: object) =>
    (await table.list({ event: 'narrow', limit: 10, ...query })).length
  t.is(await count({}), 3)
  t.is(await count({ account: 'ada' }), 2)
  t.is(await count({ client: 'app' }), 1)
  t.is(await count({ since: age(1) }), 2)
  t.is(await count({ limit: 1 }), 1)
  t.is(await table.count({ event: 'narrow' }), 3)
  t.is(await table.count({ event: 'narrow', account: 'ada', since: age(1) }), 1)
  t.is(await table.count({ event: 'narrow', client: 'nobody' }), 0)
  const [first] = await table.list({ event: 'narrow', limit: 1 })
  t.is(await count({ after: first?.id }), 2)
})

for (const [title, text] of [
  ['changed', "update audit_events set event = 'nothing happened'"],
  ['removed', 'delete from audit_events'],
  ['emptied', 'truncate audit_events'],
] as const) {
  test(`what was written cannot be ${title}`, async (t) => {
    await createAuditTable(database).append([row('kept')])
    await t.throwsAsync(database.query({ text }), { message: /append-only/ })
  })
}

test('what is older than 90 days can be removed', async (t) => {
  const table = createAuditTable(database)
  await table.append([row('old', { at: age(91) }), row('young', { at: age(89) })])
  await table.removeBefore(age(90))
  t.deepEqual(await table.list({ event: 'old', limit: 10 }), [])
  t.is((await table.list({ event: 'young', limit: 10 })).length, 1)
})

test.serial('continues after an id beyond 2^31', async (t) => {
  const table = createAuditTable(database)
  await database.query({ text: 'alter table audit_events alter id restart with 2147483646' })
  await table.append(Array.from({ length: 4 }, () => row('far')))
  let after = 0
  for (let count = 0; count < 4; count += 1) {
    const [next] = await table.list({ event: 'far', after, limit: 1 })
    after = next?.id ?? 0
  }
  t.is(after, 2 ** 31 + 1)
})

test.serial('rejects an id that JavaScript would round', async (t) => {
  const table = createAuditTable(database)
  await database.query({
    text: `insert into audit_events (id, at, event, details) overriding system value
           values (9007199254740993, now(), 'rounded', '{}')`,
  })
  const error = await t.throwsAsync(table.list({ event: 'rounded', limit: 1 }), {
    instanceOf: StorageError,
  })
  t.is(error?.code, 'audit_id_unsafe')
  t.regex(error?.message ?? '', /9007199254740993/)
})

for (const [title, details, kept] of [
  ['one long string', { reason: 'mismatch', detail: 'x'.repeat(1e5) }, 'reason detail'],
  ['many members', Object.fromEntries([...Array(1e4).keys()].map((n) => [`n${n}`, n])), 'cut'],
  ['strings that JSON escapes', { list: Array(500).fill('\u0001'.repeat(200)) }, 'cut'],
  ['strings of four bytes a character', { a: '😀'.repeat(1e4) }, 'a'],
] as const) {
  test(`cuts details with ${title}`, async (t) => {
    const event = `cut: ${title}`
    await createAuditTable(database).append([row(event, { details })])
    const { rows } = await database.query<{ bytes: number; details: object }>({
      text: 'select octet_length(details::text) as bytes, details from audit_events where event = $1',
      values: [event],
    })
    t.true((rows[0]?.bytes ?? Infinity) <= detailsLimitBytes)
    t.is(Object.keys(rows[0]?.details ?? {}).join(' '), kept)
  })
}

test('cuts names and replaces what no text column can hold', async (t) => {
  const table = createAuditTable(database)
  await table.append([row('names', { client: `a\0${'x'.repeat(1e5)}`, account: '\ud800' })])
  const [stored] = await table.list({ event: 'names', limit: 1 })
  t.is(stored?.client, `a\ufffd${'x'.repeat(254)}`)
  t.is(stored?.account, '\ufffd')
})

// It holds the lock of every writer: alone, so that the pool has a connection to look with.
test.serial('no row becomes visible after one with a greater id', async (t) => {
  const table = createAuditTable(database)
  const slow = new pg.Client({ connectionString: settings.url })
  await slow.connect()
  try {
    await slow.query('begin')
    await slow.query('select pg_advisory_xact_lock($1)', [4_815_162_343])
    let written = false
    const second = table.append([row('turn', { actor: 'second' })]).then(() => {
      written = true
    })
    while (!written && !(await someoneWaits(database)));
    await slow.query(
      "insert into audit_events (at, event, actor, details) values (now(), 'turn', 'first', '{}')",
    )
    await slow.query('commit')
    await second
    t.deepEqual(
      (await table.list({ event: 'turn', limit: 10 })).map(({ actor }) => actor),
      ['first', 'second'],
    )
  } finally {
    await slow.end()
  }
})

async function someoneWaits(database: Database): Promise<boolean> {
  const { rowCount } = await database.query({
    text: `select from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'`,
  })
  return rowCount > 0
}
