/*
 * What a used proof costs in the replay stores of @holdfast/verify that replicas share: a
 * redis-server that keeps marks in memory, one that forces each to disk before it answers, and a
 * PostgreSQL with every commit on disk. All on loopback, new keys only, in short rounds that take
 * turns; what is printed are medians over the rounds, and the ratios are those of neighbours. It
 * ends with 1 when a store takes one key twice.
 *
 * npm run bench:replay-stores -- [--json] [--rounds 15]
 */
import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { performance } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import pg from 'pg'
import type { ReplayStore } from '../../packages/verify/replay.ts'
import {
  createPostgresReplayStore,
  postgresReplayTable,
} from '../../packages/verify/replay-postgres.ts'
import { createRedisReplayStore } from '../../packages/verify/replay-redis.ts'
import { drawProgressOn, showProgress } from '../../src/commands/progress.ts'
import { asTable } from '../../src/commands/table.ts'
import { startEmbeddedPostgres } from '../../src/storage/embedded-postgres.ts'
import { startRedis } from '../support/verify/redis.ts'
import { median } from './verify/measure.ts'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '15' },
  },
})
const rounds = Number(values.rounds)
if (!(rounds >= 1 && rounds <= 1000)) throw new Error('--rounds is from 1 to 1000')

/** Marks of one turn, by how many are under way at once. */
const turns: Readonly<Record<number, number>> = { 1: 400, 16: 4000, 64: 8000 }

/** Seconds that a mark matters. */
const lifetime = 60

await using opened = new AsyncDisposableStack()
const stores: Readonly<Record<string, ReplayStore>> = {
  redis: await openRedis(),
  redis_fsync: await openRedis(['--appendonly', 'yes', '--appendfsync', 'always']),
  postgres: await openPostgres(),
}

async function openRedis(settings: readonly string[] = []): Promise<ReplayStore> {
  const [client] = opened.use(await startRedis({ settings })).clients
  return createRedisReplayStore({ send: (args) => client.sendCommand(args) })
}

async function openPostgres(): Promise<ReplayStore> {
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-replay-'))
  opened.defer(() => rm(folder, { recursive: true, force: true }))
  // Root's PostgreSQL runs as another user, who must get in.
  await chmod(folder, 0o755)
  const { connectionString } = opened.use(await startEmbeddedPostgres({ folder }))
  const pool = opened.adopt(new pg.Pool({ connectionString, max: 10 }), (it) => it.end())
  await pool.query(postgresReplayTable)
  return createPostgresReplayStore({ client: pool })
}

async function consume(store: ReplayStore, key: string): Promise<boolean> {
  const now = Date.now() / 1000
  return (await store.consume(key, now + lifetime, now)) === 'fresh'
}

/** How many of sixteen uses of one key at once are good. */
async function raceOneKey(store: ReplayStore): Promise<number> {
  const key = randomBytes(16).toString('hex')
  const uses = await Promise.all(Array.from({ length: 16 }, () => consume(store, key)))
  return uses.filter(Boolean).length
}

interface Turn {
  readonly entriesPerSecond: number
  /** Milliseconds. */
  readonly median: number
}

async function takeTurn(store: ReplayStore, atOnce: number): Promise<Turn> {
  const keys = Array.from({ length: turns[atOnce] ?? 0 }, () => randomBytes(16).toString('hex'))
  const entries = keys.length
  const waits: number[] = []
  const started = performance.now()
  const workers = Array.from({ length: atOnce }, async () => {
    for (let key = keys.pop(); key; key = keys.pop()) {
      const asked = performance.now()
      if (!(await consume(store, key))) throw new Error('a new key was taken for a used one')
      waits.push(performance.now() - asked)
    }
  })
  await Promise.all(workers)
  const seconds = (performance.now() - started) / 1000
  return { entriesPerSecond: entries / seconds, median: median(waits) }
}

const measured: { name: string; atOnce: number; turns: Turn[] }[] = Object.keys(turns)
  .map(Number)
  .flatMap((atOnce) => Object.keys(stores).map((name) => ({ name, atOnce, turns: [] })))
{
  if (!values.json) drawProgressOn(process.stderr)
  using progress = showProgress()
  // The first round warms up.
  for (let round = 0; round <= rounds; round += 1) {
    progress.report(`Round ${round} of ${rounds}`, round, rounds)
    for (const { name, atOnce, turns } of measured) {
      const turn = await takeTurn(stores[name] as ReplayStore, atOnce)
      if (round > 0) turns.push(turn)
    }
  }
}

const races = Object.fromEntries(
  await Promise.all(
    Object.entries(stores).map(async ([name, store]) => [name, await raceOneKey(store)]),
  ),
) as Record<string, number>
const failed = Object.values(races).filter((good) => good !== 1).length
const rows = measured.map(({ name, atOnce, turns }) => {
  const reference = measured.find((it) => it.name === 'postgres' && it.atOnce === atOnce)
  const ratios = turns.map(
    ({ entriesPerSecond }, round) =>
      entriesPerSecond / (reference?.turns[round]?.entriesPerSecond ?? Number.NaN),
  )
  return {
    store: name,
    at_once: atOnce,
    marks_per_s: Math.round(median(turns.map(({ entriesPerSecond }) => entriesPerSecond))),
    median_ms: Number(median(turns.map((turn) => turn.median)).toFixed(2)),
    vs_postgres: Number(median(ratios).toFixed(2)),
  }
})

console.log(
  values.json
    ? JSON.stringify({ rows, races, failed })
    : [
        asTable(
          ['Store', 'At once', 'Marks a second', 'Median, ms', 'vs postgres'],
          rows.map((row) => Object.values(row).map(String)),
        ),
        ...Object.entries(races).map(
          ([name, good]) => `${name}: of sixteen uses of one key at once ${good} was good`,
        ),
      ].join('\n\n'),
)
process.exitCode = failed === 0 ? 0 : 1
