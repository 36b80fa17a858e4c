import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { freePort } from '../../../src/net/free-port.ts'
import { holdfast } from '../../support/cli.ts'
import { query } from '../../support/query.ts'

/** What the two loads know of the server. */
export interface Target {
  readonly issuer: string
  /** Of the service `service`, which authenticates with it. The others are public: `app`, `tv`. */
  readonly secret: string
  /** Accounts `person-1@example.com` and on, and `victim@example.com`, have it. */
  readonly password: string
  readonly accounts: number
}

export interface Release extends AsyncDisposable {
  readonly target: Target
  readonly pid: number
  /** The signal or status it ended with by itself; undefined while it serves. */
  ended(): string | undefined
  readonly end: Promise<unknown>
}

const accounts = 1000
const federated = 400
const callback = 'http://127.0.0.1/callback'
const deviceGrant = 'urn:ietf:params:oauth:grant-type:device_code'

interface ReleaseOptions {
  /** The root of the release that is measured. */
  readonly checkout: string
  readonly databaseUrl: string
  /** Where it keeps its files, and `logFile` what it writes. */
  readonly folder: string
  readonly logFile: string
}

/** Fills a database by the commands of a release, and serves it as docker/compose.yaml does. */
export async function startRelease({
  checkout,
  databaseUrl,
  folder,
  logFile,
}: ReleaseOptions): Promise<Release> {
  const port = await freePort()
  const issuer = `http://127.0.0.1:${port}`
  const env = {
    DATABASE_URL: databaseUrl,
    HOLDFAST_DATA: folder,
    HOLDFAST_DEVICE_FLOW: 'on',
    HOLDFAST_ISSUER: issuer,
    HOLDFAST_PORT: String(port),
    HOLDFAST_REGISTRATION: 'on',
    HOLDFAST_SECRET: 'the secret of this benchmark, and of nothing else',
    HOLDFAST_TLS: 'off',
    HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
    ...(await oneWorker(checkout)),
  }
  const target = { issuer, accounts, ...(await fill({ cwd: folder, env, release: checkout })) }
  const log = await open(logFile, 'w')
  const server = spawn(
    process.execPath,
    ['--conditions=@holdfast/source', path.join(checkout, 'bin/holdfast.cjs'), 'serve'],
    {
      cwd: folder,
      env: { PATH: process.env.PATH, ...env, NODE_OPTIONS: await shippedLimits(checkout) },
      stdio: ['ignore', log.fd, log.fd],
    },
  )
  let ended: string | undefined
  const end = once(server, 'exit').then(([code, signal]) => {
    ended = String(signal ?? code)
  })
  const isReady = () =>
    fetch(`${issuer}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    )
  while (!(await isReady())) {
    if (ended) throw new Error(`it did not serve: ${await readFile(logFile, 'utf8')}`)
    await setTimeout(100)
  }
  return {
    target: target,
    pid: server.pid ?? 0,
    ended: () => ended,
    end,
    async [Symbol.asyncDispose]() {
      server.kill('SIGKILL')
      await end
      await log.close()
    },
  }
}

/** A single process is measured; a release that knows no other does not know the variable either. */
async function oneWorker(checkout: string): Promise<Record<string, string>> {
  const example = await readFile(path.join(checkout, '.env.example'), 'utf8')
  return example.includes('HOLDFAST_WORKERS') ? { HOLDFAST_WORKERS: '1' } : {}
}

/** The limits of V8 that operators were given before the command had its own. */
async function shippedLimits(checkout: string): Promise<string> {
  const compose = await readFile(path.join(checkout, 'docker/compose.yaml'), 'utf8')
  return /NODE_OPTIONS: (.+)/.exec(compose)?.[1] ?? ''
}

type Environment = Parameters<typeof holdfast>[0]

async function fill(environment: Environment): Promise<Pick<Target, 'secret' | 'password'>> {
  const password = 'correct horse battery staple'
  const run = async (args: readonly string[], stdin = '') => {
    const { code, stdout, stderr } = await holdfast(environment, args, { stdin })
    if (code !== 0) throw new Error(`holdfast ${args.join(' ')}: ${stderr}`)
    return stdout
  }
  const client = (id: string, ...args: readonly string[]) =>
    run(['clients', 'add', id, '--json', ...args])
  await run(['migrate'])
  const [service] = await Promise.all([
    client('service', '--grant', 'client_credentials'),
    client('app', '--native', '--auth', 'none', '--redirect-uri', callback),
    client('tv', '--auth', 'none', '--grant', deviceGrant),
    run(['accounts', 'add', 'victim@example.com', '--password-stdin'], password),
  ])
  await multiply(environment.env.DATABASE_URL ?? '')
  return { password, secret: JSON.parse(service).client_secret }
}

/** Copies what one command made: a command takes a second. */
async function multiply(databaseUrl: string): Promise<void> {
  await query(
    databaseUrl,
    `insert into accounts (id, email, password_hash)
     select 'person-' || n, 'person-' || n || '@example.com', password_hash
       from accounts, generate_series(1, $1::int) n where email = 'victim@example.com'`,
    [accounts],
  )
  await query(
    databaseUrl,
    `insert into clients (id, metadata)
     select 'partner-' || n, metadata || jsonb_build_object(
              'client_id', 'partner-' || n,
              'application_type', 'web',
              'redirect_uris', jsonb_build_array('https://partner-' || n || '.example/callback'),
              'session_policy', '{"federation": true}'::jsonb)
       from clients, generate_series(1, $1::int) n where id = 'app'`,
    [federated],
  )
}
