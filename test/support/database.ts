import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { migrate } from '../../src/storage/migrate.ts'
import { type Hooks, limitTestsAtOnce } from './at-once.ts'
import { openTestCluster, type TestCluster } from './cluster.ts'

/** A database that is dropped, connections and all, when it is disposed of. */
export interface TestDatabase extends AsyncDisposable {
  readonly url: string
}

const template = 'migrated'

/** Makes the database that those of a run of tests are copies of. */
export async function makeTemplate({ connectionString }: TestCluster): Promise<void> {
  await administer(connectionString, `create database ${template}`)
  await migrate(urlOf(connectionString, template))
}

function urlOf(connectionString: string, name: string): string {
  const url = new URL(connectionString)
  url.pathname = `/${name}`
  return url.href
}

export async function openTestDatabase({ migrated = true } = {}): Promise<TestDatabase> {
  await using opened = new AsyncDisposableStack()
  const { connectionString } = opened.use(await openTestCluster())
  const name = `test_${randomBytes(6).toString('hex')}`
  const copied = migrated && process.env.HOLDFAST_TEST_CLUSTER !== undefined
  await administer(
    connectionString,
    `create database ${name} ${copied ? `template ${template}` : ''}`,
  )
  opened.defer(() => administer(connectionString, `drop database ${name} with (force)`))
  const url = urlOf(connectionString, name)
  if (migrated && !copied) await migrate(url)
  const open = opened.move()
  return { url, [Symbol.asyncDispose]: () => open.disposeAsync() }
}

/**
 * Gives a test file a database of its own. ava wants hooks to be declared before anything is
 * awaited: the result is filled in when the tests begin.
 */
export function useTestDatabase(
  test: Hooks,
  options?: { migrated?: boolean },
): { readonly url: string } {
  const database = { url: '' }
  let opened: AsyncDisposableStack | undefined
  limitTestsAtOnce(test)
  test.serial.before(async () => {
    opened = new AsyncDisposableStack()
    Object.assign(database, { url: opened.use(await openTestDatabase(options)).url })
  })
  test.after.always('drops the database', () => opened?.disposeAsync())
  return database
}

async function administer(connectionString: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}
