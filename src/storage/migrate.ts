import { readdir, readFile } from 'node:fs/promises'
import createKnex, { type Knex } from 'knex'
import type { Database } from './database.ts'
import { StorageError } from './storage-error.ts'

const directory = new URL('../../migrations/', import.meta.url)

// Any number will do, as long as every release uses the same one.
const advisoryLock = 4_815_162_342

/**
 * Brings the schema up to this release: every file of `migrations/` that was not applied yet runs,
 * each in its own transaction, in the order of its name.
 *
 * Servers that start at the same time wait for each other and migrate once. A schema that holds a
 * migration this release does not know is newer than the code: that is a {@link StorageError} with
 * the code `schema_newer`, and nothing is changed.
 *
 * @returns the names of the migrations that were applied now.
 */
export async function migrate(
  connectionString: string,
  { onMigration = () => {} }: { onMigration?: OnMigration } = {},
): Promise<string[]> {
  const knex = createKnex({
    client: 'pg',
    connection: connectionString,
    pool: { min: 0, max: 2 },
    migrations: { migrationSource: sqlFiles() },
    // What fails is thrown as well; knex would print the statement, too.
    log: { warn() {}, error() {}, deprecate() {}, debug() {} },
  })
  try {
    return await underAdvisoryLock(knex, async () => {
      await refuseNewerSchema(knex)
      // We hold the advisory lock, so a table lock that is still set was left by a crash.
      await knex.migrate.forceFreeMigrationsLock()
      const [, pending] = (await knex.migrate.list()) as [unknown, string[]]
      const source = sqlFiles((name) => onMigration(name, pending.indexOf(name), pending.length))
      const applied: string[] = []
      // One by one: "latest" runs all of them in one transaction, which keeps the locks of the first
      // until the last has ended.
      while (applied.length < pending.length) {
        const [, names] = (await knex.migrate.up({ migrationSource: source })) as [number, string[]]
        if (names.length === 0) break
        applied.push(...names)
      }
      return applied
    })
  } finally {
    await knex.destroy()
  }
}

/**
 * Refuses a schema that is not the one of this release, and changes nothing.
 *
 * @throws {@link StorageError} `schema_older`, `schema_newer`
 */
export async function requireCurrentSchema(database: Pick<Database, 'query'>): Promise<void> {
  const known = await readNames()
  const applied = await appliedNames(database)
  refuseUnknown(applied, known)
  const [pending, ...more] = known.filter((name) => !applied.includes(name))
  if (pending === undefined) return
  throw new StorageError(
    'schema_older',
    applied.length === 0
      ? 'The database has no schema yet. Run "holdfast migrate" or "holdfast serve" first.'
      : `The database schema is older than this release of Holdfast (it lacks ${[pending, ...more].join(', ')}). ` +
          'Run "holdfast migrate"; this command has changed nothing.',
  )
}

async function appliedNames(database: Pick<Database, 'query'>): Promise<string[]> {
  const { rows: found } = await database.query<{ exists: boolean }>({
    name: 'schema_exists',
    text: "select to_regclass('knex_migrations') is not null as exists",
  })
  if (!found[0]?.exists) return []
  const { rows } = await database.query<{ name: string }>({
    name: 'schema_migrations',
    text: 'select name from knex_migrations order by id',
  })
  return rows.map(({ name }) => name)
}

/** Told of a migration that begins: how many of how many were applied before it. */
export type OnMigration = (name: string, applied: number, pending: number) => void

function sqlFiles(onBegin: (name: string) => void = () => {}): Knex.MigrationSource<string> {
  return {
    getMigrations: readNames,
    getMigrationName: (name) => name,
    async getMigration(name) {
      const sql = await readFile(new URL(name, directory), 'utf8')
      return {
        up(knex: Knex) {
          onBegin(name)
          // knex takes a question mark for a parameter, even within a string.
          return knex.raw(sql.replaceAll('?', '\\?'))
        },
        down: () => Promise.reject(new Error('migrations go forward only')),
      }
    },
  }
}

async function readNames(): Promise<string[]> {
  return (await readdir(directory)).filter((name) => name.endsWith('.sql')).sort()
}

/**
 * The lock is one of a transaction, on a connection of its own: through a pooler in transaction mode,
 * the next statement of a connection may reach another session of the database, and a lock of the
 * session would stay with the one before. Earlier releases wait for it as for their own.
 */
function underAdvisoryLock<T>(knex: Knex, work: () => Promise<T>): Promise<T> {
  return knex.transaction(async (lock) => {
    // A database may end sessions that are idle in a transaction: this one is, while others wait.
    await lock.raw('set local idle_in_transaction_session_timeout = 0')
    await lock.raw('select pg_advisory_xact_lock(?)', [advisoryLock])
    return work()
  })
}

async function refuseNewerSchema(knex: Knex): Promise<void> {
  if (!(await knex.schema.hasTable('knex_migrations'))) return
  const applied = await knex('knex_migrations').orderBy('id').pluck<string[]>('name')
  refuseUnknown(applied, await readNames())
}

function refuseUnknown(applied: readonly string[], known: readonly string[]): void {
  const unknown = applied.filter((name) => !known.includes(name))
  if (unknown.length > 0) {
    throw new StorageError(
      'schema_newer',
      `The database schema is newer than this release of Holdfast (it has ${unknown.join(', ')}). ` +
        'Run the release that made it, or a later one.',
    )
  }
}
