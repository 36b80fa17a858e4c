import { randomBytes } from 'node:crypto'
import type { TestFn } from 'ava'
import pg from 'pg'
import { migrate } from '../../src/storage/migrate.ts'
import { openTestCluster } from './cluster.ts'

/**
 * Gives a test file a database of its own and returns where it is. It is dropped, connections and
 * all, when the file's tests have ended.
 *
 * @param migrated whether it has the schema already.
 */
export async function openTestDatabase(
  test: Pick<TestFn, 'after'>,
  { migrated = true }: { migrated?: boolean } = {},
): Promise<string> {
  const cluster = await openTestCluster()
  const name = `test_${randomBytes(6).toString('hex')}`
  await administer(cluster.connectionString, `create database ${name}`)
  const url = new URL(cluster.connectionString)
  url.pathname = `/${name}`
  if (migrated) await migrate(url.href)
  test.after.always('drops the database', async () => {
    await administer(cluster.connectionString, `drop database ${name} with (force)`)
    await cluster[Symbol.asyncDispose]()
  })
  return url.href
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
