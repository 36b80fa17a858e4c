import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import pg from 'pg'
import { freePort } from '../../src/net/free-port.ts'
import { createBatch } from '../../src/storage/batch.ts'
import { openDatabase } from '../../src/storage/database.ts'
import { asUnavailable, DatabaseUnavailableError } from '../../src/storage/database-unavailable.ts'
import { migrate } from '../../src/storage/migrate.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { StorageError, type StorageErrorCode } from '../../src/storage/storage-error.ts'
import { createTtlCache } from '../../src/storage/ttl-cache.ts'
import { openTestDatabase, useTestDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'

const database = useTestDatabase(test)

const password = 'a-password-nobody-may-read'

/** The database of this file, with changes to its URL. */
function changed(change: (url: URL) => void): string {
  const url = new URL(database.url)
  change(url)
  return url.href
}

async function fails(t: ExecutionContext, databaseUrl: string, code: StorageErrorCode) {
  const { error, message } = await failure(databaseUrl)
  t.true(error instanceof StorageError, String(error))
  t.is((error as StorageError).code, code)
  t.regex(message, /DATABASE_URL|PostgreSQL/)
  t.regex(message, /\.$/)
  t.false(message.includes(password))
  t.false(message.includes(new URL(database.url).password))
  return message
}

async function failure(databaseUrl: string): Promise<{ error: unknown; message: string }> {
  const options = { databaseUrl, dataFolder: '/nonexistent', onError: () => {} }
  try {
    await using _ = await openStorage(options)
    return { error: undefined, message: 'it was opened' }
  } catch (error) {
    return { error, message: (error as Error).message }
  }
}

async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

test('opens a database that is there', async (t) => {
  t.deepEqual(await failure(database.url), { error: undefined, message: 'it was opened' })
})

test('says that nothing listens', async (t) => {
  const port = await freePort()
  const message = await fails(
    t,
    `postgresql://holdfast:${password}@127.0.0.1:${port}/holdfast`,
    'database_unreachable',
  )
  t.true(message.includes(`127.0.0.1:${port}/holdfast`))
  t.true(message.includes('ECONNREFUSED'))
})

test('says that nothing listens on any address of localhost', async (t) => {
  const port = await freePort()
  await fails(t, `postgresql://u:${password}@localhost:${port}/x`, 'database_unreachable')
})

test('says that a host is not known', async (t) => {
  const url = `postgresql://u:${password}@database.invalid/holdfast`
  await fails(t, url, 'database_unreachable')
})

test('says that the password is wrong', async (t) => {
  const url = changed((it) => {
    it.password = password
  })
  const message = await fails(t, url, 'database_unusable')
  t.regex(message, /user or password/)
})

test('says that the user is not known', async (t) => {
  const url = changed((it) => {
    it.username = 'nobody'
  })
  await fails(t, url, 'database_unusable')
})

test('says that there is no such database', async (t) => {
  const url = changed((it) => {
    it.pathname = '/missing'
  })
  const message = await fails(t, url, 'database_unusable')
  t.regex(message, /no such database/)
})

test('says that the user must not create tables', async (t) => {
  const poor = `poor_${process.pid}`
  await using empty = await openTestDatabase({ migrated: false })
  const owner = new pg.Client({ connectionString: empty.url })
  await owner.connect()
  try {
    await owner.query(`create role ${poor} login password '${password}'`)
    const url = new URL(empty.url)
    Object.assign(url, { username: poor, password })
    const message = await fails(t, url.href, 'database_unusable')
    t.regex(message, /permission denied/)
    t.false(/create table|select/.test(message), message)
  } finally {
    await owner.query(`drop role ${poor}`)
    await owner.end()
  }
})

test('says that a server is not PostgreSQL', async (t) => {
  const server = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
  const port = await listening(server)
  await fails(t, `postgresql://u:${password}@127.0.0.1:${port}/x`, 'database_unusable')
  server.close()
})

test('says that a server hangs up', async (t) => {
  const server = createServer((socket) => socket.destroy())
  const port = await listening(server)
  const { error } = await failure(`postgresql://u:${password}@127.0.0.1:${port}/x`)
  t.true(error instanceof StorageError)
  server.close()
})

test('does not wait for ever for a server that says nothing', async (t) => {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => sockets.add(socket))
  const port = await listening(server)
  const opening = openDatabase(`postgresql://u:${password}@127.0.0.1:${port}/x`, {
    onError: () => {},
    connectionTimeout: 100,
  })
  const error = await t.throwsAsync(opening, { instanceOf: StorageError })
  t.is(error?.code, 'database_unreachable')
  t.false(error?.message.includes(password))
  for (const socket of sockets) socket.destroy()
  server.close()
})

test('refuses a PostgreSQL that is too old, and changes nothing in it', async (t) => {
  await using empty = await openTestDatabase({ migrated: false })
  const client = new pg.Client({ connectionString: empty.url })
  await client.connect()
  await client.query('create schema old')
  await client.query(`create function old.current_setting(text) returns text
    return case $1 when 'server_version_num' then '140012' end`)
  const url = new URL(empty.url)
  url.searchParams.set('options', '-c search_path=old,pg_catalog')
  const { error, message } = await failure(url.href)
  const { rows } = await client.query("select from pg_tables where schemaname in ('old', 'public')")
  await client.end()
  t.true(error instanceof StorageError, message)
  t.is((error as StorageError).code, 'database_unusable')
  t.regex(message, /PostgreSQL 14; Holdfast needs 15/)
  t.is(rows.length, 0)
})

test('replaces connections that broke, and reports them', async (t) => {
  const reported: Error[] = []
  await using open = await openDatabase(database.url, {
    onError: (error) => reported.push(error),
    poolSize: 1,
  })
  const text = 'select pg_backend_pid() as pid'
  const { rows: before } = await open.query<{ pid: number }>({ text })
  const client = new pg.Client({ connectionString: database.url })
  await client.connect()
  await client.query('select pg_terminate_backend($1)', [before[0]?.pid])
  await client.end()
  while (reported.length === 0) await new Promise((resolve) => setImmediate(resolve))
  const { rows: after } = await open.query<{ pid: number }>({ text })
  t.not(after[0]?.pid, before[0]?.pid)
})

for (const [preparedStatements, count] of [
  [true, 1],
  [false, 0],
] as const) {
  test(`prepares ${count} statements when preparedStatements is ${preparedStatements}`, async (t) => {
    const options = { onError: () => {}, poolSize: 1, preparedStatements }
    await using opened = await openDatabase(database.url, options)
    await opened.query({ name: 'one', text: 'select $1::int', values: [1] })
    const text = "select count(*)::int as count from pg_prepared_statements where name = 'one'"
    t.deepEqual((await opened.query({ text })).rows, [{ count }])
  })
}

const failing = (message: string, code?: string) => Object.assign(new Error(message), { code })

const passing = [
  failing('connect ECONNREFUSED 127.0.0.1:5432', 'ECONNREFUSED'),
  failing('Connection terminated unexpectedly'),
  failing('Connection terminated due to connection timeout'),
  failing('timeout exceeded when trying to connect'),
  failing('Query read timeout'),
  failing('connection failure', '08006'),
  failing('sorry, too many clients already', '53300'),
  failing('terminating connection due to administrator command', '57P01'),
  failing('the database system is starting up', '57P03'),
  failing('cannot execute INSERT in a read-only transaction', '25006'),
  failing('cannot access temporary or unlogged relations during recovery', '0A000'),
]

for (const error of passing) {
  test(`passes: ${error.message}`, (t) => {
    const thrown = asUnavailable(error)
    t.true(thrown instanceof DatabaseUnavailableError)
    t.is((thrown as Error).cause, error)
  })
}

const staying = [
  failing('duplicate key value violates unique constraint', '23505'),
  failing('syntax error', '42601'),
  failing('permission denied for table clients', '42501'),
  failing('invalid byte sequence for encoding "UTF8": 0x00', '22021'),
  failing('bound to fail'),
]

for (const error of staying) {
  test(`stays what it is: ${error.message}`, (t) => {
    t.is(asUnavailable(error), error)
  })
}

function createFixtures() {
  const table = new Map([['a', 'first']])
  const asked: string[] = []
  const clock = { now: 0 }
  const memory = createTtlCache(
    async (key) => {
      asked.push(key)
      return table.get(key)
    },
    { now: () => clock.now },
  )
  return { table, asked, clock, memory }
}

test('what was found is found again without asking, for three seconds', async (t) => {
  const { asked, clock, memory, table } = createFixtures()
  t.is(await memory.find('a'), 'first')
  table.set('a', 'second')
  clock.now = 1999
  t.is(await memory.find('a'), 'first')
  t.deepEqual(asked, ['a'])
  clock.now = 5000
  t.is(await memory.find('a'), 'second')
})

test('reads anew from two seconds on, and answers with what it has', async (t) => {
  const { asked, clock, memory, table } = createFixtures()
  await memory.find('a')
  table.set('a', 'second')
  clock.now = 2999
  t.is(await memory.find('a'), 'first')
  t.deepEqual(asked, ['a', 'a'])
  await Promise.resolve()
  t.is(await memory.find('a'), 'second')
})

test('asks once for all who ask at the same moment', async (t) => {
  const { asked, clock, memory } = createFixtures()
  t.deepEqual(await Promise.all([memory.find('a'), memory.find('a')]), ['first', 'first'])
  clock.now = 3000
  await Promise.all([memory.find('a'), memory.find('a')])
  t.deepEqual(asked, ['a', 'a'])
})

test('reports a failure to those who wait, and asks again', async (t) => {
  const answers = [Promise.resolve('first'), Promise.reject(new Error('gone')), undefined]
  const clock = { now: 0 }
  const memory = createTtlCache(async () => answers.shift(), { now: () => clock.now })
  await memory.find('a')
  clock.now = 2500
  t.is(await memory.find('a'), 'first')
  clock.now = 3000
  await t.throwsAsync(memory.find('a'), { message: 'gone' })
  t.is(await memory.find('a'), undefined)
})

test('gives nobody what was asked before a change', async (t) => {
  const { promise, resolve } = Promise.withResolvers<string>()
  const answers = [promise, Promise.resolve('second')]
  const memory = createTtlCache(async () => answers.shift())
  const before = memory.find('a')
  memory.invalidate('a')
  t.is(await memory.find('a'), 'second')
  resolve('first')
  t.is(await before, 'first')
})

test('what was removed elsewhere is gone after three seconds', async (t) => {
  const { clock, memory, table } = createFixtures()
  await memory.find('a')
  table.delete('a')
  clock.now = 3000
  t.is(await memory.find('a'), undefined)
})

test('what was not found is asked for again', async (t) => {
  const { memory, table } = createFixtures()
  t.is(await memory.find('b'), undefined)
  table.set('b', 'new')
  t.is(await memory.find('b'), 'new')
})

test('what this process changes is forgotten at once', async (t) => {
  const { memory, table } = createFixtures()
  await memory.find('a')
  table.delete('a')
  memory.invalidate('a')
  t.is(await memory.find('a'), undefined)
})

test('what is changed while it is read is not remembered as it was', async (t) => {
  const { promise, resolve } = Promise.withResolvers<string>()
  const answers = [promise, Promise.resolve('second')]
  const memory = createTtlCache(async () => answers.shift())
  const reading = memory.find('a')
  memory.invalidate('a')
  resolve('first')
  t.is(await reading, 'first')
  t.is(await memory.find('a'), 'second')
})

test('more than a thousand entries are forgotten, and found again', async (t) => {
  const { asked, memory, table } = createFixtures()
  for (let index = 0; index < 1000; index += 1) table.set(`${index}`, 'x')
  await memory.find('a')
  for (let index = 0; index < 1000; index += 1) await memory.find(`${index}`)
  asked.length = 0
  await memory.find('a')
  t.deepEqual(asked, ['a'])
  await memory.find('999')
  t.deepEqual(asked, ['a'])
})

interface Statement {
  readonly items: readonly string[]
  readonly answer: (results: readonly string[]) => void
  readonly fail: () => void
}

function createBatchFixtures() {
  const all: Statement[] = []
  const run = createBatch(
    (items: readonly string[]) =>
      new Promise<readonly string[]>((answer, reject) => {
        all.push({ items, answer, fail: () => reject(new Error('lost')) })
      }),
  )
  /** The statements one after another, when each is sent. */
  async function* send() {
    for (let at = 0; ; ) {
      if (all[at]) yield all[at++] as Statement
      else await setImmediate()
    }
  }
  const statements = send()
  return { run, all, sent: async () => (await statements.next()).value as Statement }
}

test('alone, an item goes at the end of the turn', async (t) => {
  const { run, all, sent } = createBatchFixtures()
  const result = run('a')
  t.is(all.length, 0)
  const { items, answer } = await sent()
  t.deepEqual(items, ['a'])
  answer(['A'])
  t.is(await result, 'A')
})

test('what comes in one turn goes together, and so does what follows from it', async (t) => {
  const { run, all, sent } = createBatchFixtures()
  const both = ['a', 'b'].map((item) => run(item))
  const then = both.map(async (result) => run(`after ${await result}`))
  const first = await sent()
  t.deepEqual(first.items, ['a', 'b'])
  first.answer(['A', 'B'])
  const second = await sent()
  t.deepEqual(second.items, ['after A', 'after B'])
  second.answer(['C', 'D'])
  t.deepEqual(await Promise.all(then), ['C', 'D'])
  t.is(all.length, 2)
})

test('sends what comes during a statement together in the next', async (t) => {
  const { run, all, sent } = createBatchFixtures()
  const first = run('a')
  const { answer } = await sent()
  const others = [run('b')]
  await setImmediate()
  others.push(run('c'))
  await setImmediate()
  t.is(all.length, 1)
  answer(['A'])
  t.is(await first, 'A')
  const next = await sent()
  t.deepEqual(next.items, ['b', 'c'])
  next.answer(['B', 'C'])
  t.deepEqual(await Promise.all(others), ['B', 'C'])
})

test('fails only the statements of one batch, and sends the next', async (t) => {
  const { run, sent } = createBatchFixtures()
  const first = run('a')
  const { fail } = await sent()
  const next = run('c')
  fail()
  await t.throwsAsync(first, { message: 'lost' })
  const { answer } = await sent()
  answer(['C'])
  t.is(await next, 'C')
})

test('a crowd goes in parts', async (t) => {
  const { run, sent } = createBatchFixtures()
  const crowd = Array.from({ length: 501 }, (_, index) => run(String(index)))
  const most = await sent()
  t.is(most.items.length, 500)
  most.answer(most.items)
  t.is(await crowd[499], '499')
  const rest = await sent()
  t.deepEqual(rest.items, ['500'])
  rest.answer(['500'])
  t.is(await crowd[500], '500')
})

/*
 * The release before serves while a migration runs, and after it: a migration adds. What the release
 * before may still use is taken away one release later, in a file with a line "-- contract: why the
 * release before does not use it".
 */
const contractions: readonly [RegExp, string][] = [
  [/\bdrop\b/i, 'drops something'],
  [/\brename\b/i, 'renames something'],
  [/\btruncate\s+table\b/i, 'empties a table'],
  [/\balter\s+column\b/i, 'changes a column'],
  [/\badd\s+constraint\b/i, 'constrains a table that is written to'],
  [
    /\badd\s+column\b[^,;]*\bnot\s+null\b(?![^,;]*\bdefault\b)/i,
    'adds a column that old nodes leave out',
  ],
]

function findContractions(sql: string): string[] {
  if (/^-- contract: \S/m.test(sql)) return []
  const statements = sql.replace(/--.*$/gm, '').replace(/\$\$.*?\$\$/gs, '')
  return contractions.flatMap(([pattern, what]) => (pattern.test(statements) ? [what] : []))
}

const allMigrations = readdirSync('migrations').sort()

for (const file of allMigrations) {
  test(`${file} can run while the release before serves`, async (t) => {
    t.deepEqual(findContractions(await readFile(`migrations/${file}`, 'utf8')), [])
  })
}

for (const sql of [
  'drop table accounts;',
  'alter table accounts drop column name;',
  'alter table accounts rename column name to full_name;',
  'alter table accounts alter column name set not null;',
  'alter table accounts add constraint accounts_name_key unique (name);',
  'alter table accounts add column locale text not null;',
  'truncate table replay_marks;',
]) {
  test(`notices: ${sql}`, (t) => {
    t.is(findContractions(sql).length, 1)
    t.deepEqual(findContractions(`-- contract: nothing has read it since 1.2\n${sql}`), [])
  })
}

for (const sql of [
  '-- a drop in a comment\ncreate table later (id int);',
  "alter table accounts add column locale text not null default 'en', add column zone text;",
  'create function f() returns trigger language plpgsql as $$ begin drop table x; end $$;',
]) {
  test(`lets pass: ${sql}`, (t) => t.deepEqual(findContractions(sql), []))
}

async function query(connectionString: string, text: string): Promise<pg.QueryResultRow[]> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}

/** Everything that a migration could change. */
async function schema(url: string) {
  const columns = `select table_name, column_name, data_type from information_schema.columns
                    where table_schema = 'public' order by table_name, ordinal_position`
  const hasMigrations = (await query(url, "select to_regclass('knex_migrations') as name"))[0]?.name
  return {
    columns: await query(url, columns),
    migrations: hasMigrations && (await query(url, 'select id, name from knex_migrations')),
  }
}

test('brings an empty database up to this release', async (t) => {
  await using database = await openTestDatabase({ migrated: false })
  t.deepEqual(await migrate(database.url), allMigrations)
  const tables = await query(
    database.url,
    `select table_name from information_schema.tables where table_schema = 'public'
        and table_name !~ '^audit_events_(until_)?20\\d\\d_\\d\\d$' order by 1`,
  )
  t.deepEqual(
    tables.map((row) => row.table_name),
    [
      'account_links',
      'accounts',
      'artifacts',
      'audit_events',
      'authorization_details_types',
      'browser_sessions',
      'claim_mappings',
      'client_documents',
      'client_logos',
      'client_registrations',
      'clients',
      'code_apps',
      'counted_events',
      'device_polls',
      'email_changes',
      'failed_sign_ins',
      'initial_access_tokens',
      'invitations',
      'knex_migrations',
      'knex_migrations_lock',
      'logout_deliveries',
      'mail_deliveries',
      'mail_senders',
      'node_probes',
      'passkeys',
      'ping_deliveries',
      'rate_limits',
      'recovery_codes',
      'recovery_links',
      'replay_marks',
      'resource_servers',
      'security_events',
      'session_bindings',
      'sign_ups',
      'signing_keys',
    ],
  )
})

test('tells of each migration as it begins', async (t) => {
  await using database = await openTestDatabase({ migrated: false })
  const message: unknown[] = []
  const onMigration = (...step: unknown[]) => message.push(step)
  await migrate(database.url, { onMigration })
  t.deepEqual(
    message,
    allMigrations.map((name, applied) => [name, applied, allMigrations.length]),
  )
})

test('applies nothing a second time', async (t) => {
  await using database = await openTestDatabase()
  const before = await schema(database.url)
  t.deepEqual(await migrate(database.url), [])
  t.deepEqual(await schema(database.url), before)
})

test('migrates once when servers start at the same time', async (t) => {
  await using database = await openTestDatabase({ migrated: false })
  const applied = await Promise.all(Array.from({ length: 4 }, () => migrate(database.url)))
  t.deepEqual(
    applied.filter((names) => names.length > 0),
    [allMigrations],
  )
})

test('holds its lock in a transaction, which a pooler gives a session of its own', async (t) => {
  await using database = await openTestDatabase()
  const holder = new pg.Client({ connectionString: database.url })
  await holder.connect()
  await holder.query('begin; lock table knex_migrations in access exclusive mode')
  const migrating = migrate(database.url)
  const states = () =>
    query(
      database.url,
      `select state from pg_stat_activity join pg_locks using (pid)
        where locktype = 'advisory' and granted and database = (
          select oid from pg_database where datname = current_database())`,
    )
  await until(async () => (await states()).length > 0)
  // Between its statements: the migration waits for the table on another connection.
  await until(async () => (await states())[0]?.state === 'idle in transaction')
  await holder.query('commit')
  await holder.end()
  t.deepEqual(await migrating, [])
  t.deepEqual(await states(), [])
})

test('migrates after a crash that left the lock of knex', async (t) => {
  await using database = await openTestDatabase()
  await query(database.url, 'update knex_migrations_lock set is_locked = 1')
  t.deepEqual(await migrate(database.url), [])
})

test('refuses a newer schema and changes nothing', async (t) => {
  await using database = await openTestDatabase()
  await query(
    database.url,
    "insert into knex_migrations (name, batch, migration_time) values ('9999_later.sql', 2, now())",
  )
  const before = await schema(database.url)
  const error = await t.throwsAsync(migrate(database.url), { instanceOf: StorageError })
  t.is(error?.code, 'schema_newer')
  t.regex(error?.message ?? '', /9999_later\.sql/)
  t.deepEqual(await schema(database.url), before)
})

test('refuses a newer schema before it applies what is missing', async (t) => {
  await using database = await openTestDatabase()
  await query(database.url, "update knex_migrations set name = '9999_later.sql'")
  const before = await schema(database.url)
  const error = await t.throwsAsync(migrate(database.url), { instanceOf: StorageError })
  t.is(error?.code, 'schema_newer')
  t.deepEqual(await schema(database.url), before)
})

test('leaves nothing behind when a migration fails, and succeeds when the cause is gone', async (t) => {
  await using database = await openTestDatabase({ migrated: false })
  await query(database.url, 'create table signing_keys (kid text)')
  await t.throwsAsync(migrate(database.url), { code: '42P07' })
  const tables = "select count(*)::int as count from pg_tables where tablename = 'artifacts'"
  t.deepEqual(await query(database.url, tables), [{ count: 0 }])
  await query(database.url, 'drop table signing_keys')
  t.deepEqual(await migrate(database.url), allMigrations)
})

test('opening storage migrates the database at DATABASE_URL, and says what it applied', async (t) => {
  await using database = await openTestDatabase({ migrated: false })
  const options = { databaseUrl: database.url, dataFolder: '/nonexistent', onError: () => {} }
  for (const applied of [allMigrations, []]) {
    await using storage = await openStorage(options)
    t.deepEqual(storage.migrated, applied)
    t.deepEqual(await storage.clients.list(), [])
  }
})
