import { readdir } from 'node:fs/promises'
import test from 'ava'
import pg from 'pg'
import { migrate } from '../../src/storage/migrate.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { StorageError } from '../../src/storage/storage-error.ts'
import { openTestDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'

const allMigrations = (await readdir('migrations')).sort()

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
    "select table_name from information_schema.tables where table_schema = 'public' order by 1",
  )
  t.deepEqual(
    tables.map((row) => row.table_name),
    [
      'accounts',
      'artifacts',
      'audit_events',
      'browser_sessions',
      'client_registrations',
      'clients',
      'counted_events',
      'device_polls',
      'failed_sign_ins',
      'initial_access_tokens',
      'knex_migrations',
      'knex_migrations_lock',
      'node_probes',
      'rate_limits',
      'replay_marks',
      'resource_servers',
      'security_events',
      'session_bindings',
      'signing_keys',
    ],
  )
})

test('tells of each migration as it begins', async (t) => {
  await using database = await openTestDatabase({ migrated: false })
  const told: unknown[] = []
  const onMigration = (...step: unknown[]) => told.push(step)
  await migrate(database.url, { onMigration })
  t.deepEqual(
    told,
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

test('goes on after a crash that left the lock of knex', async (t) => {
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
