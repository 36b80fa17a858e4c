/*
 * An upgrade from the schema before migration 0014 with ten million rows of artifacts, of used jtis and
 * of the audit trail, while the release before serves: how long each lock was held, which requests
 * failed, and whether an audit event was lost. The release before is taken from the history of this
 * clone, with the packages that are installed here; --checkout names another copy of it.
 *
 * A run takes about 20 minutes and 15 GB of disk; a short one has 100,000 rows of each and takes less
 * than a minute. The exit code is 1 when a gate of report.ts fails.
 *
 * npm run bench:upgrade -- [--short] [--json] [--checkout DIR]
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, open, readFile, symlink } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { drawProgressOn, showProgress } from '../../../src/commands/progress.ts'
import { freePort } from '../../../src/net/free-port.ts'
import { migrate } from '../../../src/storage/migrate.ts'
import { fromSources, holdfast } from '../../support/cli.ts'
import { openBenchDatabase } from '../database.ts'
import { fill, settle, withoutIndexes } from '../growth/rows.ts'
import { makeKeys, prepare, send } from '../token/load.ts'
import { api, clientIdOf } from '../token/scenario.ts'
import { watchLocks } from './locks.ts'
import { judgeUpgrade, reportUpgrade } from './report.ts'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    short: { type: 'boolean', default: false },
    checkout: { type: 'string' },
  },
})
const rows = values.short ? 100_000 : 10_000_000
/** Milliseconds of load before the upgrade, and after it. */
const besideMs = values.short ? 3000 : 30_000
const way = { grant: 'client_credentials', method: 'client_secret_basic', binding: 'dpop' } as const

drawProgressOn(values.json ? undefined : process.stderr)
using progress = showProgress()
await using opened = new AsyncDisposableStack()
const interrupted = new Promise<never>((_, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => reject(new Error(`ended by ${signal}`)))
  }
})
interrupted.catch(() => {})
const database = opened.use(await openBenchDatabase())
const measured = await Promise.race([measureUpgrade(), interrupted])
progress.rest()
const result = judgeUpgrade(measured)
console.log(
  values.json ? JSON.stringify({ ...measured, ...result }) : reportUpgrade(measured, result),
)
process.exitCode = result.failed === 0 ? 0 : 1

async function measureUpgrade() {
  progress.report('Preparing the release before', 0, 0)
  const release = path.resolve(values.checkout ?? (await extractRelease()))
  const port = await freePort()
  const issuer = `http://127.0.0.1:${port}`
  const env = {
    DATABASE_URL: database.connectionString,
    HOLDFAST_DATA: database.folder,
    HOLDFAST_ISSUER: issuer,
    HOLDFAST_PORT: String(port),
    HOLDFAST_SECRET: 'the secret of this benchmark, and of nothing else',
    HOLDFAST_TLS: 'off',
    HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
  }
  const run = async (...args: string[]) => {
    const finished = await holdfast({ cwd: database.folder, env, release }, args)
    if (finished.code !== 0) throw new Error(`holdfast ${args.join(' ')}: ${finished.stderr}`)
    return finished.stdout
  }
  const clientId = clientIdOf(way)
  await run('migrate')
  await run('resources', 'add', api, '--scope', 'read')
  const added = await run('clients', 'add', clientId, '--grant', 'client_credentials', '--json')
  const secrets = { [clientId]: (JSON.parse(added) as { client_secret: string }).client_secret }
  const client = opened.adopt(
    new pg.Client({ connectionString: database.connectionString }),
    (each) => each.end(),
  )
  await client.connect()
  await fillAll(client)
  const server = opened.use(await serve(release, env, issuer))
  const load = await startLoad({ issuer, secrets })
  await setTimeout(besideMs)
  const before = load.lap()
  await using locks = await watchLocks(database.connectionString)
  const began = performance.now()
  const steps: { name: string; beganMs: number }[] = []
  progress.report('Migrating beside the load', 0, 0)
  await migrate(database.connectionString, {
    onMigration: (name) => steps.push({ name, beganMs: performance.now() - began }),
  })
  const totalMs = performance.now() - began
  const seen = await locks.end()
  const during = load.lap()
  await setTimeout(besideMs)
  const after = load.lap()
  const answered = await load.end()
  await server.end()
  const { rows: found } = await client.query<{ count: number }>(
    "select count(*)::float8 as count from audit_events where event = 'tokens.issued'",
  )
  const lost = answered - (found[0]?.count ?? 0)
  return { rows, totalMs, steps, locks: seen, load: { before, during, after }, lost }
}

/** The tree before the first migration after 0013, beside the packages that are installed. */
async function extractRelease(): Promise<string> {
  const git = (...args: string[]) => execFileSync('git', args, { maxBuffer: 1e9 })
  const made = git('log', '--format=%H', '--diff-filter=A', '--', 'migrations/0014_churn.sql')
  const commit = made.toString().trim().split('\n').at(-1)
  if (!commit) throw new Error('this clone has no history: name a copy with --checkout')
  const folder = path.join(database.folder, 'release')
  await mkdir(folder)
  execFileSync('tar', ['-x', '-C', folder], { input: git('archive', `${commit}^`) })
  await symlink(path.resolve('node_modules'), path.join(folder, 'node_modules'))
  return folder
}

async function fillAll(client: pg.Client): Promise<void> {
  const tables = ['artifacts', 'replay_marks', 'audit_events']
  await withoutIndexes(client, tables, () => fillTables(client))
  await settle(client)
}

async function fillTables(client: pg.Client): Promise<void> {
  const day = 86_400
  await fill(client, { rows, expire: [day, 14 * day], name: 'old' }, (done) =>
    progress.report(`Filling: ${done} of ${rows} rows`, done, rows),
  )
  for (let done = 0; done < rows; done += 100_000) {
    progress.report(`Filling the audit trail: ${done} of ${rows} rows`, done, rows)
    await client.query(
      `insert into audit_events (at, event, account, client, address, request_id, details)
       select now() - make_interval(secs => (${rows} - n) / 10.0), 'login.succeeded', 'account-' || n / 100,
              'filled', '192.0.2.7', sha256(n::text::bytea)::text, '{}'
         from generate_series(${done}, ${Math.min(done + 100_000, rows) - 1}) as n`,
    )
  }
}

async function serve(release: string, env: Record<string, string>, issuer: string) {
  const logFile = path.join(database.folder, 'server.log')
  const log = await open(logFile, 'w')
  const args = [fromSources, path.join(release, 'src/cli.ts'), 'serve']
  const child = spawn(process.execPath, args, {
    cwd: database.folder,
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', log.fd, log.fd],
  })
  const exited = once(child, 'exit')
  const isReady = () =>
    fetch(`${issuer}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    )
  while (!(await isReady())) {
    if (child.exitCode !== null) throw new Error(await readFile(logFile, 'utf8'))
    await setTimeout(100)
  }
  const end = async () => {
    child.kill('SIGTERM')
    await exited
    await log.close().catch(() => {})
  }
  return { end, [Symbol.asyncDispose]: end }
}

/** Eight clients that ask for tokens one after the other. */
async function startLoad(candidate: { issuer: string; secrets: Record<string, string> }) {
  const key = await makeKeys()
  let isOver = false
  let answered = 0
  let part = { requests: 0, failed: 0, slowestMs: 0 }
  const ask = async () => {
    while (!isOver) {
      const began = performance.now()
      const answer = await send(candidate, prepare(candidate, way, key, undefined)).catch(() => {})
      part.requests += 1
      part.slowestMs = Math.max(part.slowestMs, performance.now() - began)
      if (answer?.status === 200) answered += 1
      else part.failed += 1
    }
  }
  const slots = Array.from({ length: 8 }, ask)
  return {
    lap() {
      const lap = part
      part = { requests: 0, failed: 0, slowestMs: 0 }
      return lap
    },
    async end() {
      isOver = true
      await Promise.all(slots)
      return answered
    },
  }
}
