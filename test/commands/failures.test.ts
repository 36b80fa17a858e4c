import { once } from 'node:events'
import { chmod, cp, mkdir, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer as configCreateServer } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import pg from 'pg'
import { explain } from '../../src/commands/command.ts'
import { keyPurposes } from '../../src/keys/key-purpose.ts'
import { freePort } from '../../src/net/free-port.ts'
import { DatabaseUnavailableError } from '../../src/storage/database-unavailable.ts'
import { type Finished, useCommandLine } from '../support/cli.ts'
import { openTestDatabase, useTestDatabase } from '../support/database.ts'
import { useFolder } from '../support/folder.ts'
import { query } from '../support/query.ts'

const holdfast = useCommandLine(test)
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
  t.is(head, 'holdfast: The configuration has 5 errors:')
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

async function nextRelease(t: ExecutionContext): Promise<string> {
  const release = path.join(cwd, 'next-release')
  t.teardown(() => rm(release, { recursive: true }))
  await mkdir(release)
  for (const part of ['bin', 'src', 'migrations', 'package.json']) {
    await cp(part, path.join(release, part), { recursive: true })
  }
  await symlink(path.resolve('node_modules'), path.join(release, 'node_modules'))
  await writeFile(path.join(release, 'migrations/9999_later.sql'), 'create table later ()')
  return release
}

const stateOf = async (url: string) => ({
  tables: await query(
    url,
    "select relname from pg_class where relnamespace = 'public'::regnamespace",
  ),
  migrations: await query(url, 'select * from knex_migrations'),
  keys: await query(url, 'select kid from signing_keys'),
  accounts: await query(url, 'select email from accounts'),
})

test('a newer release changes nothing in an older database until it migrates', async (t) => {
  await using older = await openTestDatabase()
  const before = await stateOf(older.url)
  const data = path.join(cwd, 'of-a-newer-release')
  const { HOLDFAST_SECRET: _, ...env } = environment({
    DATABASE_URL: older.url,
    HOLDFAST_DATA: data,
  }).env as Record<string, string>
  const newer = { cwd, env, release: await nextRelease(t) }
  for (const args of ['clients list', 'keys list', 'audit', 'accounts add ada@example.com']) {
    const result = await holdfast(newer, args.split(' '))
    failed(t, result, /schema is older .* 9999_later\.sql.* Run "holdfast migrate"/)
  }
  t.deepEqual(await stateOf(older.url), before)
  await t.throwsAsync(stat(data), { code: 'ENOENT' })
  t.is((await holdfast(newer, ['migrate'])).stdout, 'Applied 9999_later.sql.\n')
  // Nobody else would have the secret that is made for one command.
  t.deepEqual(await query(older.url, 'select kid from signing_keys'), [])
  t.is((await holdfast(newer, ['clients', 'list'])).code, 0)
})

test('reading commands and commands about accounts and clients make no keys', async (t) => {
  await using empty = await openTestDatabase()
  const shell = environment({ DATABASE_URL: empty.url })
  for (const args of [
    'keys list',
    'sessions list',
    'accounts add ada@example.com',
    'clients add app --auth none --redirect-uri https://app.example/cb',
  ]) {
    t.like(await holdfast(shell, args.split(' ')), { code: 0, stderr: '' }, args)
  }
  t.deepEqual(await query(empty.url, 'select kid from signing_keys'), [])
  t.is((await holdfast(shell, ['migrate'])).code, 0)
  t.is((await query(empty.url, 'select kid from signing_keys')).length, keyPurposes.length)
})

test('says that there is no schema, or no embedded database, yet', async (t) => {
  await using empty = await openTestDatabase({ migrated: false })
  const missing = await holdfast(environment({ DATABASE_URL: empty.url }), ['accounts', 'list'])
  failed(t, missing, /no schema yet\. Run "holdfast migrate"/)
  const folder = path.join(cwd, 'never-made')
  const result = await holdfast(environment({ HOLDFAST_DATA: folder }), ['accounts', 'list'])
  failed(
    t,
    result,
    /There is no database in the data folder .*"holdfast serve".*"holdfast migrate"/,
  )
  await t.throwsAsync(stat(folder), { code: 'ENOENT' })
})
const configDatabase = useTestDatabase(test, { migrated: false })
let port = ''

test.before(async () => {
  port = String(await freePort())
})

const env = () => {
  const url = new URL(configDatabase.url)
  url.searchParams.set('application_name', 'must-not-be-shown-3')
  return {
    HOLDFAST_SECRET: 'the secret that must not be shown, 1 of 3',
    HOLDFAST_SECRET_PREVIOUS: 'the secret that must not be shown, 2 of 3',
    DATABASE_URL: url.href,
    HOLDFAST_HOST: '0.0.0.0',
    HOLDFAST_PORT: port,
    HOLDFAST_TLS: 'off',
    HOLDFAST_TRUSTED_PROXIES: '10.0.0.1,10.0.0.2',
  }
}

test('shows each variable on a line, and no secret', async (t) => {
  const { code, stdout, stderr } = await holdfast({ cwd, env: env() }, ['config', 'check'])
  t.is(stderr, '')
  t.is(code, 0)
  t.regex(stdout, /^The configuration is right\.\n\n {2}HOLDFAST_ISSUER +http:\/\/localhost:\d+\n/)
  t.regex(stdout, /^ {2}HOLDFAST_DRAIN_SECONDS +0$/m)
  t.regex(stdout, /^ {2}HOLDFAST_KEY_ROTATION_DAYS +90$/m)
  t.regex(stdout, /^ {2}HOLDFAST_TRUSTED_PROXIES +10\.0\.0\.1,10\.0\.0\.2$/m)
  t.regex(stdout, /^ {2}HOLDFAST_METRICS +not set$/m)
  t.regex(stdout, /^ {2}DATABASE_URL +postgresql:\/\/[\w.:]+\/test_\w+$/m)
  t.regex(stdout, /^ {2}HOLDFAST_SECRET +set$/m)
  t.regex(stdout, /^Warning: HOLDFAST_HOST is 0\.0\.0\.0 and HOLDFAST_ISSUER is http:/m)
  t.notRegex(stdout, /[{}]|must.not.be.shown/)
})

test('shows the same as JSON', async (t) => {
  const { stdout } = await holdfast({ cwd, env: env() }, ['config', 'check', '--json'])
  const { warnings, variables } = JSON.parse(stdout)
  t.is(warnings.length, 1)
  t.like(variables, { HOLDFAST_PORT: port, HOLDFAST_SECRET: 'set', HOLDFAST_METRICS: null })
  t.notRegex(stdout, /must.not.be.shown/)
})

test('reports everything that keeps a server from starting at once', async (t) => {
  const taken = configCreateServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const address = taken.address()
  const inUse = typeof address === 'object' ? String(address?.port) : ''
  const wrong = {
    HOLDFAST_DPOP_NONCES: 'perhaps',
    HOLDFAST_SECRET: 'abcd'.repeat(8),
    HOLDFAST_PORT: inUse,
    HOLDFAST_METRICS: `127.0.0.1:${inUse}`,
    HOLDFAST_MTLS_PORT: port,
    HOLDFAST_TLS_CERT_FILE: path.join(cwd, 'no-cert.pem'),
    HOLDFAST_TLS_KEY_FILE: path.join(cwd, 'no-key.pem'),
    HOLDFAST_CLIENT_CA_FILE: path.join(cwd, 'no-ca.pem'),
    HOLDFAST_DATA: '/dev/null/data',
    DATABASE_URL: 'postgresql://holdfast:must-not-be-shown@127.0.0.1:1/none',
  }
  const { code, stdout, stderr } = await holdfast({ cwd, env: wrong }, ['config', 'check'])
  t.is(code, 1)
  t.is(stdout, '')
  const [head, ...lines] = stderr.trimEnd().split('\n')
  const expected = [
    /^ {2}HOLDFAST_SECRET is weak/,
    /^ {2}HOLDFAST_DPOP_NONCES must be required or optional\.$/,
    /^ {2}HOLDFAST_METRICS must be at another port than HOLDFAST_PORT\.$/,
    /^ {2}HOLDFAST_TLS_CERT_FILE cannot be read \(ENOENT\): .*no-cert\.pem\.$/,
    /^ {2}HOLDFAST_TLS_KEY_FILE cannot be read \(ENOENT\): .*no-key\.pem\.$/,
    /^ {2}HOLDFAST_CLIENT_CA_FILE: .*no-ca\.pem cannot be read \(ENOENT\)\.$/,
    /^ {2}HOLDFAST_DATA cannot be written \(ENOTDIR\): \/dev\/null\/data\.$/,
    /^ {2}No PostgreSQL answers at 127\.0\.0\.1:1\/none .* Check DATABASE_URL/,
    new RegExp(`^  HOLDFAST_PORT: port ${inUse} on 127\\.0\\.0\\.1 is in use\\.`),
    new RegExp(`^  HOLDFAST_METRICS: port ${inUse} on 127\\.0\\.0\\.1 is in use\\.`),
  ]
  t.is(head, `holdfast: The configuration has ${expected.length} errors:`, stderr)
  for (const [at, line] of lines.entries()) t.regex(line, expected[at] ?? /^no line$/)
  t.notRegex(stderr, /must.not.be.shown|abcd/)
})

test('reports a database that goes away during a command in a sentence', (t) => {
  const error = new DatabaseUnavailableError(new Error('Connection terminated unexpectedly'))
  t.is(
    explain(error),
    'The database does not answer now (Connection terminated unexpectedly). Try again in a moment.',
  )
})

test('reports what the user of the database must not do, and treats other errors as defects', (t) => {
  const error = new pg.DatabaseError('permission denied for table accounts', 0, 'error')
  t.is(explain(Object.assign(error, { code: '42703' })), undefined)
  t.is(
    explain(Object.assign(error, { code: '42501' })),
    'PostgreSQL denied this to the user in DATABASE_URL: permission denied for table accounts.',
  )
})
