import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import pg from 'pg'
import { freePort } from '../../src/net/free-port.ts'
import { openDatabase } from '../../src/storage/database.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { StorageError, type StorageErrorCode } from '../../src/storage/storage-error.ts'
import { openTestDatabase, useTestDatabase } from '../support/database.ts'

const database = useTestDatabase(test)

const password = 'a-password-nobody-may-read'

/** The database of this file, with changes to its URL. */
function changed(change: (url: URL) => void): string {
  const url = new URL(database.url)
  change(url)
  return url.href
}

async function fails(t: ExecutionContext, databaseUrl: string, code: StorageErrorCode) {
  const { error, told } = await failure(databaseUrl)
  t.true(error instanceof StorageError, String(error))
  t.is((error as StorageError).code, code)
  t.regex(told, /DATABASE_URL|PostgreSQL/)
  t.regex(told, /\.$/)
  t.false(told.includes(password))
  t.false(told.includes(new URL(database.url).password))
  return told
}

async function failure(databaseUrl: string): Promise<{ error: unknown; told: string }> {
  const options = { databaseUrl, dataFolder: '/nonexistent', onError: () => {} }
  try {
    await using _ = await openStorage(options)
    return { error: undefined, told: 'it was opened' }
  } catch (error) {
    return { error, told: (error as Error).message }
  }
}

async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

test('opens a database that is there', async (t) => {
  t.deepEqual(await failure(database.url), { error: undefined, told: 'it was opened' })
})

test('says that nothing listens', async (t) => {
  const port = await freePort()
  const told = await fails(
    t,
    `postgresql://holdfast:${password}@127.0.0.1:${port}/holdfast`,
    'database_unreachable',
  )
  t.true(told.includes(`127.0.0.1:${port}/holdfast`))
  t.true(told.includes('ECONNREFUSED'))
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
  const told = await fails(t, url, 'database_unusable')
  t.regex(told, /user or password/)
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
  const told = await fails(t, url, 'database_unusable')
  t.regex(told, /no such database/)
})

test('says that the user may not make tables', async (t) => {
  const poor = `poor_${process.pid}`
  await using empty = await openTestDatabase({ migrated: false })
  const owner = new pg.Client({ connectionString: empty.url })
  await owner.connect()
  try {
    await owner.query(`create role ${poor} login password '${password}'`)
    const url = new URL(empty.url)
    Object.assign(url, { username: poor, password })
    const told = await fails(t, url.href, 'database_unusable')
    t.regex(told, /permission denied/)
    t.false(/create table|select/.test(told), told)
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
  const { error, told } = await failure(url.href)
  const { rows } = await client.query("select from pg_tables where schemaname in ('old', 'public')")
  await client.end()
  t.true(error instanceof StorageError, told)
  t.is((error as StorageError).code, 'database_unusable')
  t.regex(told, /PostgreSQL 14; Holdfast needs 15/)
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
