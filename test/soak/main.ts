/*
 * Several nodes behind HAProxy on one durable PostgreSQL, and clients that sign in, refresh and ask
 * for tokens, for some minutes. Tokens live for minutes to months: what is a minute old is expired
 * by hand, all but what is in use, so that cleanup has its work within the run. Memory is measured
 * right after garbage was collected. It ends with 1 when a criterion fails.
 *
 * npm run soak -- [--minutes 5] [--nodes 3] [--workers 4] [--json]
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { RecordableHistogram } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'
import { parseArgs, styleText } from 'node:util'
import { asTable } from '../../src/commands/table.ts'
import { startEmbeddedPostgres } from '../../src/storage/embedded-postgres.ts'
import { startFleet } from '../support/fleet.ts'
import { startLoad } from '../support/load.ts'
import { query } from '../support/query.ts'
import { floorGrowth, judge, type MemorySample, slope, type TableSample } from './judge.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' },
    nodes: { type: 'string', default: '3' },
    workers: { type: 'string', default: '4' },
    json: { type: 'boolean', default: false },
  },
})
const [minutes, count, workers] = [values.minutes, values.nodes, values.workers].map(Number) as [
  number,
  number,
  number,
]
if (!(minutes > 0 && minutes <= 120 && count >= 1 && count <= 8 && workers >= 1 && workers <= 64)) {
  throw new Error('--minutes is up to 120, --nodes from 1 to 8, --workers from 1 to 64')
}

/** Seconds after which a row may be expired by hand. */
const shortLife = 60

/** Seconds after its expiry by which a row is gone: two rounds of cleanup, and some for the work. */
const cleanedWithin = 130

/** Seconds that each kind lives by itself. Refresh tokens are in use until they are consumed. */
const lifetimes = { AccessToken: 600, ClientCredentials: 600, Interaction: 3600, marks: 600 }

const expireOld = [
  `update artifacts set expires_at = now() where kind = 'RefreshToken' and expires_at > now()
      and consumed_at < now() - make_interval(secs => ${shortLife + 10})`,
  ...Object.entries(lifetimes).map(([kind, life]) => {
    const where = `expires_at between now() and now() + make_interval(secs => ${life - shortLife})`
    return kind === 'marks'
      ? `update replay_marks set expires_at = now() where ${where}`
      : `update artifacts set expires_at = now() where kind = '${kind}' and ${where}`
  }),
].join(';')

const expiries = {
  artifacts: 'expires_at',
  browser_sessions: 'expires_at',
  rate_limits: 'to_timestamp(expire / 1000.0)',
  replay_marks: 'expires_at',
}

async function lookAtTables(url: string): Promise<TableSample[]> {
  const each = Object.entries(expiries).map(async ([table, expiry]) => {
    const [row] = await query(
      url,
      `select count(*)::int as rows, pg_total_relation_size('${table}')::float8 / 1e6 as megabytes,
              (count(*) filter (
                where ${expiry} < now() - interval '${cleanedWithin} s'))::int as left
         from ${table}`,
    )
    return { table, ...row } as TableSample
  })
  return Promise.all(each)
}

await using opened = new AsyncDisposableStack()
const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-soak-'))
opened.defer(() => rm(folder, { recursive: true, force: true }))
// Root's PostgreSQL runs as another user, who must get in.
await chmod(folder, 0o755)
const { connectionString: url } = opened.use(await startEmbeddedPostgres({ folder }))
const collector = new URL('collect-garbage.ts', import.meta.url)
const environment = { NODE_OPTIONS: `--expose-gc --import=${collector}` }
const fleet = opened.use(await startFleet({ databaseUrl: url, count, environment }))
const load = startLoad(fleet, { workers })

const started = Date.now()
const minute = () => (Date.now() - started) / 60_000
const memory: MemorySample[][] = fleet.nodes.map(() => [])
while (minute() < minutes) {
  await setTimeout(Math.min(5000, (minutes - minute()) * 60_000))
  await query(url, expireOld)
  for (const node of fleet.nodes) node.signal('SIGUSR2')
  await setTimeout(500)
  for (const [at, node] of fleet.nodes.entries()) {
    const [heap = 0, external = 0, resident = 0] = await Promise.all(
      [
        'nodejs_heap_size_used_bytes',
        'nodejs_external_memory_bytes',
        'process_resident_memory_bytes',
      ].map(async (name) => (await node.measure(name)) / 1e6),
    )
    memory[at]?.push({ minute: minute(), megabytes: heap + external, resident })
  }
  if (process.stderr.isTTY) {
    process.stderr.write(`\r${minute().toFixed(1)} of ${minutes} minutes `)
  }
}
if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
await load.stop()
const tables = await lookAtTables(url)

const { violations } = load
const answers = Object.fromEntries(load.answers)
const gates = judge({ memory, tables, violations, answers })
const failed = Object.values(gates).filter((held) => !held).length
const milliseconds = (histogram: RecordableHistogram, percentile: number) =>
  Number((histogram.percentile(percentile) / 1000).toFixed(1))
const operations = Object.fromEntries(
  Object.entries(load.latencies).map(([name, histogram]) => [
    name,
    {
      count: histogram.count,
      p50_ms: milliseconds(histogram, 50),
      p99_ms: milliseconds(histogram, 99),
    },
  ]),
)
const nodes = memory.map((samples) => ({
  resident_mb: Math.round(samples.at(-1)?.resident ?? 0),
  resident_mb_per_minute: Number(slope(samples, ({ resident }) => resident).toFixed(2)),
  held_mb: Math.round(samples.at(-1)?.megabytes ?? 0),
  held_mb_per_minute: Number(slope(samples, ({ megabytes }) => megabytes).toFixed(2)),
  least_mb_per_minute: Number(floorGrowth(samples).toFixed(2)),
}))

console.log(
  values.json
    ? JSON.stringify({ minutes, operations, nodes, tables, answers, violations, gates, failed })
    : [
        asTable(
          ['Operation', 'Succeeded', 'p50, ms', 'p99, ms'],
          Object.entries(operations).map(([name, { count, p50_ms, p99_ms }]) =>
            [name, count, p50_ms, p99_ms].map(String),
          ),
        ),
        asTable(
          ['Node', 'Resident, MB', 'a minute', 'Objects, MB', 'a minute', 'the least, a minute'],
          nodes.map((node, at) => [at + 1, ...Object.values(node)].map(String)),
        ),
        asTable(
          ['Table', 'Rows', 'Left behind', 'MB'],
          tables.map(({ table, rows, left, megabytes }) =>
            [table, rows, left, megabytes.toFixed(1)].map(String),
          ),
        ),
        `Answers: ${Object.entries(answers)
          .map(([status, times]) => `${times} × ${status}`)
          .join(', ')}`,
        ...violations.map((violation) => styleText('red', violation)),
        Object.entries(gates)
          .map(
            ([name, held]) => `${held ? styleText('green', '✓') : styleText('red', '✗')} ${name}`,
          )
          .join('\n'),
      ].join('\n\n'),
)
process.exitCode = failed === 0 ? 0 : 1
