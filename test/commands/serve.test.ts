import { once } from 'node:events'
import { mkdir, readdir, readFile, stat } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import https from 'node:https'
import path from 'node:path'
import { json } from 'node:stream/consumers'
import test from 'ava'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { version } from '../../src/config/version.ts'
import { freePort } from '../../src/net/free-port.ts'
import { createAccountTable } from '../../src/storage/account-table.ts'
import { openDatabase } from '../../src/storage/database.ts'
import { authenticated } from '../support/accounts.ts'
import { holdfast, serve } from '../support/cli.ts'
import { openTestDatabase } from '../support/database.ts'
import { useFolder } from '../support/folder.ts'
import { until } from '../support/until.ts'

const cwd = useFolder(test)

async function environment(changes: Record<string, string> = {}) {
  const port = await freePort()
  return { cwd, env: { HOLDFAST_PORT: String(port), HOLDFAST_LOG_LEVEL: 'warn', ...changes } }
}

async function metadata(issuer: string, authorityFile: string) {
  const ca = await readFile(authorityFile)
  const url = `${issuer}/.well-known/openid-configuration`
  const [response] = (await once(https.get(url, { ca, agent: false }), 'response')) as [
    IncomingMessage,
  ]
  return (await json(response)) as { issuer: string }
}

/** A postmaster removes this file when it has stopped. */
const isRunning = (data: string) =>
  stat(path.join(data, 'postgres', 'postmaster.pid')).then(
    () => true,
    () => false,
  )

test('serves with nothing but a data folder, beside the command line, and keeps its data', async (t) => {
  const data = path.join(cwd, 'embedded')
  await mkdir(data)
  const env = await environment({ HOLDFAST_DATA: data })

  const first = await serve(env)
  const issuer = `https://localhost:${env.env.HOLDFAST_PORT}`
  t.is(first.printed('Issuer'), issuer)
  t.is(first.printed('Metadata'), `${issuer}/.well-known/openid-configuration`)
  t.is(first.printed('Account'), 'admin@localhost')
  t.is(first.printed('Client'), 'first-app')
  t.regex(first.printed('Password') ?? '', /^\S{23}$/)
  const authorityFile = first.printed('Trust')?.replace('NODE_EXTRA_CA_CERTS=', '') ?? ''
  t.is((await metadata(issuer, authorityFile)).issuer, issuer)

  await until(async () => {
    const { stdout } = await holdfast(env, ['audit', '--json'])
    const told = stdout
      .trim()
      .split('\n')
      .filter((line) => JSON.parse(line).actor === 'server')
    const events = new Set(told.map((line) => JSON.parse(line).event))
    return ['key.made', 'account.added', 'client.added'].every((event) => events.has(event))
  })
  const list = await holdfast(env, ['accounts', 'list'])
  t.is(list.stderr, '')
  t.regex(list.stdout, /^admin@localhost /m)
  t.true(await isRunning(data))
  t.is((await metadata(issuer, authorityFile)).issuer, issuer)

  const ended = await first.end('SIGINT')
  const notice = /^(holdfast: .* runs as the user \w+\.\n)$/
  t.regex(ended.stderr, process.getuid?.() === 0 ? notice : /^$/)
  t.is(ended.code, 0)
  t.false(await isRunning(data))

  const migrate = await holdfast(env, ['migrate'])
  t.deepEqual(migrate, { code: 0, stdout: 'The schema is up to date.\n', stderr: '' })
  t.false(await isRunning(data))

  const second = await serve(env)
  t.is(second.printed('Account'), undefined)
  t.is(second.printed('Password'), undefined)
  t.is(second.printed('Client'), 'first-app')
  t.is(second.printed('Trust'), first.printed('Trust'))
  t.is((await metadata(issuer, authorityFile)).issuer, issuer)
  t.is((await second.end('SIGTERM')).code, 0)
  t.false(await isRunning(data))
})

test('an installation that others can reach begins without accounts and clients, and is warned', async (t) => {
  await using database = await openTestDatabase()
  const env = await environment({
    DATABASE_URL: database.url,
    HOLDFAST_DATA: path.join(cwd, 'public'),
    HOLDFAST_ISSUER: 'https://id.example.com',
    HOLDFAST_ALLOW_TLS_OFF_WITHOUT_TRUSTED_PROXIES: 'on',
    HOLDFAST_TLS: 'off',
  })
  const serving = await serve(env)
  t.is(serving.printed('Accounts'), 'none:')
  for (const name of ['Account', 'Password', 'Client']) t.is(serving.printed(name), undefined)
  const { code, stderr } = await serving.end('SIGTERM')
  t.is(code, 0)
  t.regex(stderr, /"event":"config\.warning".*HOLDFAST_TRUSTED_PROXIES is empty/)
  for (const command of ['accounts', 'clients']) {
    const { stdout } = await holdfast(env, [command, 'list', '--json'])
    t.deepEqual(JSON.parse(stdout), [])
  }
})

test('serves from a database, prints a password that signs in, and ends by signals', async (t) => {
  await using database = await openTestDatabase({ migrated: false })
  const env = await environment({
    DATABASE_URL: database.url,
    HOLDFAST_DATA: path.join(cwd, 'data'),
    HOLDFAST_DRAIN_SECONDS: '60',
    HOLDFAST_LOG_LEVEL: 'info',
    HOLDFAST_TLS: 'off',
  })
  const migrated = await holdfast(env, ['migrate', '--json'])
  t.deepEqual(JSON.parse(migrated.stdout), {
    applied: (await readdir('migrations')).sort(),
  })

  const serving = await serve(env)
  t.is(serving.printed('Issuer'), `http://localhost:${env.env.HOLDFAST_PORT}`)
  t.is(serving.printed('Trust'), undefined)
  {
    await using open = await openDatabase(database.url, { onError: () => {} })
    const accounts = createAccounts({ store: createAccountTable(open) })
    const [email, password] = [serving.printed('Account'), serving.printed('Password')]
    t.truthy(await authenticated(accounts, email ?? '', password ?? ''))
  }

  const status = async (path: string) => (await fetch(`${serving.printed('Issuer')}${path}`)).status
  t.is(await status('/readyz'), 200)
  serving.signal('SIGTERM')
  await until(async () => (await status('/readyz')) === 503)
  t.is(await status('/jwks'), 200)
  // Whoever does not want to wait says so again.
  t.timeout(45_000, 'it drains on')
  const { code, stdout, stderr } = await serving.end('SIGINT')
  t.is(code, 0)
  // The log of a first start is one line.
  t.like(JSON.parse(stderr), { event: 'server.starting', version })
  t.regex(stdout, /Serving for 60 seconds more\.\n/)
  t.regex(stdout, /Finishing requests\.\n$/)
})

test('says in its log that a connection to the database broke, and serves on', async (t) => {
  await using database = await openTestDatabase()
  const env = await environment({
    DATABASE_URL: database.url,
    HOLDFAST_DATA: path.join(cwd, 'broken'),
    HOLDFAST_TLS: 'off',
  })
  const serving = await serve(env)
  await using other = await openDatabase(database.url, { onError: () => {} })
  await until(async () => {
    await other.query({
      text: `select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and pid <> pg_backend_pid()`,
    })
    return serving.errors().includes('database.connection_lost')
  })
  const ready = `http://localhost:${env.env.HOLDFAST_PORT}/readyz`
  await until(async () => (await fetch(ready)).status === 200)
  const { code, stderr } = await serving.end('SIGTERM')
  t.is(code, 0)
  const lines = stderr.trim().split('\n')
  const broken = lines
    .map((line) => JSON.parse(line))
    .filter(({ event }) => event === 'database.connection_lost')
  t.is(broken[0]?.level, 40)
  t.truthy(broken[0]?.err.message)
})
