/*
 * Several nodes behind HAProxy on one durable PostgreSQL, and clients that sign in, refresh and ask
 * for tokens, until every node has answered so many requests. Tokens live for minutes to months:
 * what is a minute old is expired by hand, all but what is in use, so that cleanup has its work
 * within the run. The nodes have the limits of V8 that docker/compose.yaml sets. The first one is
 * made to collect its garbage, to see what it holds; the others are left alone, to see the resident
 * set that an operator sees. It ends with 1 when a criterion fails.
 *
 * npm run soak -- [--requests 40000] [--minutes 30] [--nodes 3] [--workers 4] [--leak 0] [--json]
 *
 * --requests is for each node, --minutes is when it ends at the latest, and --leak makes the nodes
 * keep so many bytes of each request, to see that memory fails then.
 */
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { RecordableHistogram } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'
import { parseArgs, styleText } from 'node:util'
import { drawProgressOn, showProgress } from '../../src/commands/progress.ts'
import { asTable } from '../../src/commands/table.ts'
import { startEmbeddedPostgres } from '../../src/storage/embedded-postgres.ts'
import { type FleetNode, startFleet } from '../support/fleet.ts'
import { startLoad } from '../support/load.ts'
import { query } from '../support/query.ts'
import { until } from '../support/until.ts'
import {
  fewestRequests,
  judge,
  type MemorySample,
  riseOfHeld,
  riseOfResident,
  type TableSample,
} from './judge.ts'

const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '40000' },
    minutes: { type: 'string', default: '30' },
    nodes: { type: 'string', default: '3' },
    workers: { type: 'string', default: '4' },
    leak: { type: 'string', default: '0' },
    json: { type: 'boolean', default: false },
  },
})

function numberOf(name: Exclude<keyof typeof values, 'json'>, least: number, most: number): number {
  const number = Number(values[name])
  if (number >= least && number <= most) return number
  throw new Error(`--${name} is from ${least} to ${most}`)
}

const requests = numberOf('requests', 1, 1e9)
const minutes = numberOf('minutes', 0, 24 * 60)
const count = numberOf('nodes', 2, 8)
const workers = numberOf('workers', 1, 64)
const leak = numberOf('leak', 0, 1e6)

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
  // They are kept for a minute longer (src/storage/replay-table.ts).
  replay_marks: "expires_at + interval '1 minute'",
}

/** What is needed to look. */
function nodeOptions(): string {
  const preload = (file: string) => `--import=${new URL(file, import.meta.url)}`
  return [
    '--expose-gc',
    preload(`collect-garbage.ts?file=${heldFile}`),
    ...(leak > 0 ? [preload(`leak.ts?bytes=${leak}`)] : []),
  ].join(' ')
}

/** Takes a sample of a node, and gives the requests that it has answered. */
async function look(node: FleetNode, at: number): Promise<number> {
  const [requests = 0, set = 0] = await node.measure(
    'holdfast_http_request_duration_seconds_count',
    'process_resident_memory_bytes',
  )
  if (at === 0) held.push({ requests, megabytes: (await collect(node)) / 1e6 })
  else resident[at - 1]?.push({ requests, megabytes: set / 1e6 })
  return requests
}

/** Bytes that a node holds after a collection of garbage. */
async function collect(node: FleetNode): Promise<number> {
  await rm(heldFile, { force: true })
  node.signal('SIGUSR2')
  let bytes = ''
  await until(async () => {
    bytes = await readFile(heldFile, 'utf8').catch(() => '')
    return bytes !== ''
  })
  return Number(bytes)
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
const heldFile = path.join(folder, 'held')
const { connectionString: url } = opened.use(await startEmbeddedPostgres({ folder }))
const fleet = opened.use(
  await startFleet({ databaseUrl: url, count, environment: { NODE_OPTIONS: nodeOptions() } }),
)
const load = startLoad(fleet, { workers })

const started = Date.now()
const elapsed = () => (Date.now() - started) / 60_000
const held: MemorySample[] = []
const resident: MemorySample[][] = fleet.nodes.slice(1).map(() => [])
{
  if (!values.json) drawProgressOn(process.stderr)
  using progress = showProgress()
  for (let answered = 0; answered < requests && elapsed() < minutes; ) {
    await setTimeout(5000)
    await query(url, expireOld)
    answered = Math.min(...(await Promise.all(fleet.nodes.map(look))))
    const percent = Math.max(answered / requests, elapsed() / minutes) * 100
    const [seen, all] = [answered, requests].map((number) => number.toLocaleString('en'))
    progress.report(
      `${seen} of ${all} requests a node, ${elapsed().toFixed(1)} minutes`,
      Math.min(percent, 100),
      100,
    )
  }
}
await load.stop()
const tables = await lookAtTables(url)

const violations = load.judge()
const answers = Object.fromEntries(load.answers)
const gates = judge({ held, resident, tables, violations, answers })
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
const nodes = [
  memoryOf('held after collection', held, riseOfHeld(held)),
  ...resident.map((samples) => memoryOf('resident set', samples, riseOfResident(samples))),
]

function memoryOf(what: string, samples: readonly MemorySample[], rise: number) {
  const megabytes = samples.map(({ megabytes }) => Number(megabytes.toFixed(1)))
  return {
    what,
    requests: samples.at(-1)?.requests ?? 0,
    most_mb: Math.max(...megabytes),
    last_mb: megabytes.at(-1) ?? 0,
    rise_mb: Number(rise.toFixed(2)),
  }
}

console.log(
  values.json
    ? JSON.stringify({
        minutes: Number(elapsed().toFixed(1)),
        operations,
        nodes,
        tables,
        answers,
        violations,
        gates,
        failed,
      })
    : [
        asTable(
          ['Operation', 'Succeeded', 'p50, ms', 'p99, ms'],
          Object.entries(operations).map(([name, { count, p50_ms, p99_ms }]) =>
            [name, count, p50_ms, p99_ms].map(String),
          ),
        ),
        asTable(
          ['Node', 'Memory', 'Requests', 'most, MB', 'last, MB', 'rise in the last quarter, MB'],
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
        ...(gates.requests_enough_to_judge_memory
          ? []
          : [`Of each node memory is judged after ${4 * fewestRequests} requests.`]),
        Object.entries(gates)
          .map(
            ([name, held]) => `${held ? styleText('green', '✓') : styleText('red', '✗')} ${name}`,
          )
          .join('\n'),
      ].join('\n\n'),
)
process.exitCode = failed === 0 ? 0 : 1
