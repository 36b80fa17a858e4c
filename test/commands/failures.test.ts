import { once } from 'node:events'
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import pg from 'pg'
import { freePort } from '../../src/http/free-port.ts'
import { type Finished, holdfast } from '../support/cli.ts'
import { openTestDatabase, useTestDatabase } from '../support/database.ts'
import { useFolder } from '../support/folder.ts'

const cwd = useFolder(test)
const database = useTestDatabase(test)

function failed(t: ExecutionContext, { code, stdout, stderr }: Finished, words: RegExp) {
  t.is(code, 1, stdout + stderr)
  t.is(stdout, '')
  t.regex(stderr, words)
  // One sentence, and nothing of where in the program it was thrown.
  t.is(stderr.trimEnd().split('\n').length, 1, stderr)
  t.true(stderr.startsWith('holdfast: '))
  t.true(stderr.endsWith('.\n'))
}

const environment = (changes: Record<string, string>) => ({
  cwd,
  env: {
    HOLDFAST_DATA: path.join(cwd, 'data'),
    HOLDFAST_TLS: 'off',
    HOLDFAST_SECRET: 'a secret of at least 32 characters',
    HOLDFAST_LOG_LEVEL: 'silent',
    ...changes,
  },
})

test('says each of five configuration mistakes in one sentence', async (t) => {
  const { code, stdout, stderr } = await holdfast(
    environment({
      HOLDFAST_PORT: '99999',
      HOLDFAST_TLS: 'maybe',
      HOLDFAST_SECRET: 'short',
      HOLDFAST_ISSUER: 'https://id.example.com/',
      HOLDFAST_DPOP_NONCE: 'required',
    }),
    ['serve'],
  )
  t.is(code, 1)
  t.is(stdout, '')
  const [head, ...lines] = stderr.trimEnd().split('\n')
  t.is(head, 'holdfast: The configuration has 5 mistakes:')
  t.deepEqual(lines.map((line) => line.trim().split(' ')[0]).sort(), [
    'HOLDFAST_DPOP_NONCE',
    'HOLDFAST_ISSUER',
    'HOLDFAST_PORT',
    'HOLDFAST_SECRET',
    'HOLDFAST_TLS',
  ])
  for (const line of lines) t.regex(line, /^ {2}[^.].*\.$/)
})

test('says one configuration mistake without a list', async (t) => {
  const result = await holdfast(environment({ HOLDFAST_PORT: '0' }), ['accounts', 'list'])
  failed(t, result, /^holdfast: HOLDFAST_PORT must be a number from 1 to 65535\.$/m)
})

test('reads its configuration from a file .env', async (t) => {
  const folder = path.join(cwd, 'with-env')
  await mkdir(folder)
  await writeFile(path.join(folder, '.env'), 'HOLDFAST_PORT=0\n')
  failed(t, await holdfast({ cwd: folder, env: {} }, ['migrate']), /HOLDFAST_PORT/)
})

const password = 'a-password-nobody-may-read'

test('says that no database answers', async (t) => {
  const port = await freePort()
  const url = `postgresql://holdfast:${password}@127.0.0.1:${port}/holdfast`
  for (const command of ['serve', 'migrate']) {
    const result = await holdfast(environment({ DATABASE_URL: url }), [command])
    failed(
      t,
      result,
      /^holdfast: No PostgreSQL answers at 127\.0\.0\.1:\d+\/holdfast .*DATABASE_URL/,
    )
    t.false(result.stderr.includes(password))
  }
})

test('says that the database refuses the password', async (t) => {
  const url = new URL(database.url)
  url.password = password
  const result = await holdfast(environment({ DATABASE_URL: url.href }), ['serve'])
  failed(t, result, /refuses the user or password in DATABASE_URL/)
  t.false(result.stderr.includes(password))
})

test('says that the schema is newer', async (t) => {
  await using newer = await openTestDatabase()
  const client = new pg.Client({ connectionString: newer.url })
  await client.connect()
  await client.query(
    "insert into knex_migrations (name, batch, migration_time) values ('9999_later.sql', 2, now())",
  )
  await client.end()
  const result = await holdfast(environment({ DATABASE_URL: newer.url }), ['serve'])
  failed(t, result, /schema is newer than this release/)
})

test('says that a port is in use', async (t) => {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  const { port } = other.address() as AddressInfo
  const result = await holdfast(
    environment({
      DATABASE_URL: database.url,
      HOLDFAST_PORT: String(port),
    }),
    ['serve'],
  )
  other.close()
  failed(t, result, new RegExp(`Port ${port} on 127\\.0\\.0\\.1 is in use.*HOLDFAST_PORT`))
})

test('says that the data folder cannot be made', async (t) => {
  const file = path.join(cwd, 'a-file')
  await writeFile(file, '')
  for (const folder of [file, path.join(file, 'data')]) {
    const result = await holdfast(environment({ HOLDFAST_DATA: folder }), ['serve'])
    failed(t, result, /^holdfast: The data folder .* cannot be .*HOLDFAST_DATA/)
  }
})

const testAsOrdinaryUser = process.getuid?.() === 0 ? test.skip : test

testAsOrdinaryUser('says that the data folder cannot be written', async (t) => {
  const folder = path.join(cwd, 'locked')
  await mkdir(folder)
  await chmod(folder, 0o500)
  const result = await holdfast(environment({ HOLDFAST_DATA: folder }), ['serve'])
  failed(t, result, /^holdfast: The data folder .* cannot be written \(EACCES\).*HOLDFAST_DATA/)
  t.deepEqual(await readdir(folder), [])
})

test('says that the certificate cannot be kept in the data folder', async (t) => {
  const file = path.join(cwd, 'another-file')
  await writeFile(file, '')
  const result = await holdfast(
    environment({
      DATABASE_URL: database.url,
      HOLDFAST_TLS: 'on',
      HOLDFAST_DATA: path.join(file, 'data'),
    }),
    ['serve'],
  )
  failed(t, result, /^holdfast: The development certificate cannot be kept in .*HOLDFAST_DATA/)
})
