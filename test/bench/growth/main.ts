/*
 * What a grant costs with few rows and with many, and whether cleanup keeps up with what is written.
 *
 * Three servers, each in a process of its own with a database of its own, on one PostgreSQL that
 * keeps every commit: with 10⁴, 10⁶ and 10⁷ rows of used refresh tokens, and as many of used jtis.
 * They take turns in short rounds, so that ratios are those of neighbours; in the middle a tenth of the
 * rows expires, and some rounds are measured while it is removed. Then the first server answers
 * refreshes for ten minutes as fast as it can, while as many rows expire as it writes.
 *
 * A run takes about 40 minutes and 14 GB of disk, most of it for the ten million rows; a short one
 * has 10⁴ and 10⁵ rows, and takes less than a minute; --minutes runs the ten minutes alone, which take
 * thirteen. Gates are those of result.ts; the exit code is 1
 * when one of them fails. SIGINT ends it, and leaves nothing.
 *
 * npm run bench:growth -- [--short | --minutes] [--json]
 */
import { parseArgs } from 'node:util'
import pg from 'pg'
import { drawProgressOn, showProgress } from '../../../src/commands/progress.ts'
import { freePort } from '../../../src/net/free-port.ts'
import { createArtifactTable } from '../../../src/storage/artifact-table.ts'
import { startCleanup } from '../../../src/storage/cleanup.ts'
import { openDatabase } from '../../../src/storage/database.ts'
import { createReplayTable } from '../../../src/storage/replay-table.ts'
import { openBenchDatabase } from '../database.ts'
import { type CandidateProcess, startCandidate } from '../token/candidate-process.ts'
import { makeKeys } from '../token/load.ts'
import { openPostgresMeter } from '../token/postgres-cpu.ts'
import { atOnce, percentile, sendUntil, slotsOf } from './load.ts'
import { reportGrowth } from './report.ts'
import type { Growth, GrowthGrant, GrowthSample, Minute } from './result.ts'
import { judgeGrowth } from './result.ts'
import { fill, settle, sizeOf, withoutIndexes } from './rows.ts'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    short: { type: 'boolean', default: false },
    minutes: { type: 'boolean', default: false },
  },
})
const plan = values.short
  ? { sizes: [1e4, 1e5], rounds: 3, requests: 96, minutes: 3, minuteMs: 2000 }
  : {
      sizes: values.minutes ? [1e4] : [1e4, 1e6, 1e7],
      rounds: 20,
      requests: 1000,
      minutes: 10,
      minuteMs: 60_000,
    }
/** Of rows that expire during a run: cleanup has two intervals for them. */
const graceS = (2 * plan.minuteMs) / 1000

drawProgressOn(values.json ? undefined : process.stderr)
using progress = showProgress()

interface Sized extends AsyncDisposable {
  readonly rows: number
  readonly candidate: CandidateProcess
  readonly client: pg.Client
  readonly url: string
}

await using opened = new AsyncDisposableStack()
const ended = new Promise<never>((_, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => reject(new Error(`ended by ${signal}`)))
  }
})
ended.catch(() => {})
const { connectionString } = opened.use(await openBenchDatabase())
const key = await makeKeys()

const growth = await Promise.race([measureGrowth(), ended])
progress.rest()
const result = judgeGrowth(growth, { judgesP99: !values.short })
console.log(values.json ? JSON.stringify({ ...growth, ...result }) : reportGrowth(growth, result))
process.exitCode = result.failed === 0 ? 0 : 1

async function measureGrowth(): Promise<Growth> {
  progress.report(`Starting ${plan.sizes.length} servers`, 0, 0)
  const sized = await Promise.all(plan.sizes.map(async (rows) => opened.use(await openSized(rows))))
  for (const each of sized) await fillSized(each)
  const turns = [...sized]
  const [first] = sized as [Sized]
  if (values.minutes) {
    return { sizes: plan.sizes, samples: [], cleanups: [], minutes: await runMinutes(first) }
  }
  await using postgres = await openPostgresMeter(connectionString)
  const samples: GrowthSample[] = []
  const measureAll = async (cleaning: boolean, warm = false) => {
    for (const grant of ['client_credentials', 'refresh_token'] as const) {
      for (const each of turns) {
        const sample = await measure(each, postgres, grant, cleaning)
        if (!warm) samples.push(sample)
      }
      // Whoever goes first pays for what the one before it left behind.
      turns.push(turns.shift() as Sized)
    }
  }
  await measureAll(false, true)
  const rounds = async (label: string, count: number, cleaning: boolean) => {
    for (let round = 0; round < count; round += 1) {
      progress.report(`${label}: round ${round + 1} of ${count}`, round, count)
      await measureAll(cleaning)
    }
  }
  await rounds('Grants', plan.rounds, false)
  const expired = await Promise.all(sized.map(expireTenth))
  await using cleanups = new AsyncDisposableStack()
  for (const { url } of sized) await cleanBeside(url, cleanups)
  await rounds('Grants beside cleanup', Math.ceil(plan.rounds / 2), true)
  const left = await Promise.all(sized.map(leftOf))
  await cleanups.disposeAsync()
  return {
    sizes: plan.sizes,
    samples,
    cleanups: sized.map(({ rows }, at) => ({
      ...{ rows, expired: expired[at] ?? 0, left: left[at] ?? Number.NaN },
    })),
    minutes: await runMinutes(first),
  }
}

async function openSized(rows: number): Promise<Sized> {
  await using making = new AsyncDisposableStack()
  const url = await createDatabase(`rows_${rows}`)
  const options = { databaseUrl: url, port: await freePort(), clientKeys: key.public }
  const candidate = making.use(await startCandidate('holdfast', options))
  const client = making.adopt(new pg.Client({ connectionString: url }), (each) => each.end())
  await client.connect()
  const made = making.move()
  return { rows, candidate, client, url, [Symbol.asyncDispose]: () => made.disposeAsync() }
}

async function fillSized({ rows, client }: Sized): Promise<void> {
  const day = 86_400
  await withoutIndexes(client, ['artifacts', 'replay_marks'], () =>
    fill(client, { rows, expire: [day, 14 * day], name: 'old' }, (done) =>
      progress.report(`Filling: ${done} of ${rows} rows`, done, rows),
    ),
  )
  await settle(client)
}

async function measure(
  { rows, candidate }: Sized,
  postgres: Awaited<ReturnType<typeof openPostgresMeter>>,
  grant: GrowthGrant,
  cleaning: boolean,
): Promise<GrowthSample> {
  const slots = await slotsOf(candidate, key, grant)
  const before = await candidate.usage()
  await postgres.lap()
  const { times, failures } = await sendUntil(
    candidate,
    key,
    { grant, slots },
    (sent) => sent >= plan.requests,
  )
  const cpu = (await postgres.lap()) + (await candidate.usage()).cpu - before.cpu
  const [p50Ms, p99Ms] = [percentile(times, 0.5), percentile(times, 0.99)]
  return { rows, grant, cleaning, cpuUs: cpu / times.length, p50Ms, p99Ms, failures }
}

/** Lets a tenth of the rows expire, and 200,000 at most. */
async function expireTenth({ rows, client }: Sized): Promise<number> {
  const count = Math.min(rows / 10, 200_000)
  await fill(client, { rows: count, expire: [-3600, -600], name: 'expired' })
  return 2 * count
}

/** The cleanup of one more node, which begins at once. */
async function cleanBeside(url: string, stack: AsyncDisposableStack): Promise<void> {
  const database = stack.use(await openDatabase(url, { onError: () => {} }))
  const options = {
    tables: [createArtifactTable(database), createReplayTable(database)],
    interval: plan.minuteMs / 2,
    onCleaned() {},
    onError(error: unknown) {
      throw error
    },
  }
  stack.use(startCleanup(options))
}

/** Expired rows that are left when they have had the time that a minute of writing gives them. */
async function leftOf({ client }: Sized): Promise<number> {
  const until = performance.now() + 2 * plan.minuteMs
  for (;;) {
    const { backlog } = await sizeOf(client, 0)
    if (backlog === 0 || performance.now() > until) return backlog
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}

/** Refreshes at full speed, while as many rows expire as are written. */
async function runMinutes({ candidate, client, url }: Sized): Promise<Minute[]> {
  const slots = await slotsOf(candidate, key, 'refresh_token')
  const load = { grant: 'refresh_token', slots } as const
  const trial = performance.now()
  await sendUntil(candidate, key, load, (sent) => sent >= 50 * atOnce)
  const perSecond = (50 * atOnce * 1000) / (performance.now() - trial)
  const runS = (plan.minutes * plan.minuteMs) / 1000
  progress.report('Filling what expires during the run', 0, 0)
  // Replay entries are kept for a minute longer; those of the run itself expire after it.
  await fill(client, { rows: Math.ceil(perSecond * runS), expire: [-60, runS - 60], name: 'run' })
  await using cleanups = new AsyncDisposableStack()
  // The server looks once a minute; a short run has no minutes.
  if (values.short) await cleanBeside(url, cleanups)
  const minutes: Minute[] = []
  while (minutes.length < plan.minutes) {
    progress.report(`Minute ${minutes.length + 1} at full speed`, minutes.length, plan.minutes)
    const end = performance.now() + plan.minuteMs
    const { times, failures } = await sendUntil(candidate, key, load, () => performance.now() > end)
    const size = await sizeOf(client, graceS)
    minutes.push({ grants: times.length, p99Ms: percentile(times, 0.99), ...size, failures })
  }
  return minutes
}

async function createDatabase(name: string): Promise<string> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  await client.query(`create database ${name}`)
  await client.end()
  const url = new URL(connectionString)
  url.pathname = `/${name}`
  return url.href
}
