/*
 * Grants a second, and the CPU of one, of a node with one worker, with two, and with as many as this
 * machine has cores. Each node is started by the command line, on a database of its own in one
 * PostgreSQL that keeps every commit; they take turns in short rounds, and what is printed are medians.
 * The load is sent from here: the node, PostgreSQL and the load share the cores, so that the rate of
 * several workers is at most the cores divided by the CPU of all three. The exit code is 1 when a
 * request failed. It takes three minutes, and a short run one.
 *
 * npm run bench:workers -- [--short] [--json]
 */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { drawProgressOn, showProgress } from '../../../src/commands/progress.ts'
import { openBenchDatabase } from '../database.ts'
import { type ServingNode, startServingNode } from '../serving-node.ts'
import { makeKeys } from '../token/load.ts'
import { type Cell, measure, median, type Sample } from '../token/measure.ts'
import { openPostgresMeter } from '../token/postgres-cpu.ts'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    short: { type: 'boolean', default: false },
  },
})
const { rounds, requests, warmUp } = values.short
  ? { rounds: 3, requests: 160, warmUp: 160 }
  : { rounds: 9, requests: 320, warmUp: 640 }

const cells: readonly Cell[] = (['client_credentials', 'refresh_token'] as const).map((grant) => ({
  grant,
  method: 'client_secret_basic',
  binding: 'dpop',
  concurrency: 16,
}))

interface Measured extends Sample {
  readonly workers: number
  /** Microseconds of CPU that this process took for one grant. */
  readonly loadCpu: number
}

drawProgressOn(values.json ? undefined : process.stderr)
using progress = showProgress()
progress.report('Starting the nodes', 0, 0)
await using opened = new AsyncDisposableStack()
const { connectionString } = opened.use(await openBenchDatabase())
const key = await makeKeys()
const nodes: { workers: number; node: ServingNode }[] = []
for (const workers of new Set([1, 2, availableParallelism()])) {
  const databaseUrl = await createDatabase(`workers_${workers}`)
  const options = { databaseUrl, clientKeys: key.public, workers }
  nodes.push({ workers, node: opened.use(await startServingNode(options)) })
}
const bench = { key, postgres: opened.use(await openPostgresMeter(connectionString)) }
for (const { node } of nodes) for (const cell of cells) await measure(node, bench, cell, warmUp)

const samples: Measured[] = []
for (let round = 0; round < rounds; round += 1) {
  progress.report(`Round ${round + 1} of ${rounds}`, round, rounds)
  for (const cell of cells) {
    for (const { workers, node } of nodes) {
      const before = process.cpuUsage()
      const sample = await measure(node, bench, cell, requests)
      const { user, system } = process.cpuUsage(before)
      samples.push({ ...sample, workers, loadCpu: (user + system) / requests })
    }
    nodes.push(nodes.shift() as (typeof nodes)[number])
  }
}
progress.rest()

const rows = cells.flatMap(({ grant }) =>
  nodes
    .map(({ workers }) => workers)
    .sort((one, other) => one - other)
    .map((workers) => {
      const mine = samples.filter((each) => each.grant === grant && each.workers === workers)
      const of = (pick: (sample: Measured) => number) => median(mine.map(pick))
      return {
        grant,
        workers,
        grants_per_second: Math.round(of(({ grantsPerSecond }) => grantsPerSecond)),
        node_cpu_ms: toMs(of(({ nodeCpu }) => nodeCpu)),
        postgres_cpu_ms: toMs(of(({ postgresCpu }) => postgresCpu)),
        load_cpu_ms: toMs(of(({ loadCpu }) => loadCpu)),
        failures: mine.reduce((sum, { failures }) => sum + failures, 0),
      }
    }),
)
const cores = availableParallelism()
if (values.json) console.log(JSON.stringify({ cores, rounds, requests, rows }))
else {
  console.log(`${cores} cores, ${rounds} rounds of ${requests} requests, 16 at once\n`)
  console.table(rows)
}
process.exitCode = rows.some(({ failures }) => failures > 0) ? 1 : 0

function toMs(microseconds: number): number {
  return Math.round(microseconds) / 1000
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
