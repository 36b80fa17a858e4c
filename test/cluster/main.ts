/*
 * Automatic failover with the tools of the field: three PostgreSQL under Patroni with three etcd,
 * HAProxy before them, three nodes of Holdfast, and clients that sign in, refresh and ask for tokens
 * while the leader is switched, killed, frozen and cut off. Then the same load through PgBouncer in
 * transaction mode, with a leader that is killed. All by the files of docker/cluster/, on loopback,
 * in a folder that is removed. It ends with 1 when something was lost, used twice or answered wrong.
 *
 * npm run rehearse:cluster -- [--only <scenario>] [--pgbouncer <program>] [--keep] [--json]
 *
 * --only is switchover, etcd, kill, freeze, partition or pgbouncer. --pgbouncer is the program to run
 * instead of the system's: below 1.21 the nodes have HOLDFAST_PREPARED_STATEMENTS=off. --keep leaves
 * the folder with the logs, and prints its name.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseArgs, styleText } from 'node:util'
import { drawProgressOn, showProgress } from '../../src/commands/progress.ts'
import { asTable } from '../../src/commands/table.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { findLosses, startLoad } from '../support/load.ts'
import { query } from '../support/query.ts'
import { until } from '../support/until.ts'
import {
  findProgram,
  missingPrograms,
  type PatroniCluster,
  startPatroniCluster,
} from './patroni.ts'
import { startPgbouncer } from './pgbouncer.ts'
import { probeTable, type Scenario, scenarios } from './scenarios.ts'
import { createWitness, type Testimony } from './witness.ts'

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    pgbouncer: { type: 'string' },
    keep: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})

/** Milliseconds for one scenario, and for all of them with what comes before and after. */
const limits = { scenario: 90_000, all: 12 * 60_000 }

/** Milliseconds after which a request hangs: a statement is given up after 20 s. */
const patienceMs = 25_000

/** What clients may see: answers in order, and 503 with Retry-After, which the load looks at. */
const expected = new Set(['200', '302', '303', '400', '503'])

interface Outcome extends Testimony {
  readonly scenario: string
  readonly title: string
  /** What must not be. Empty when it went well. */
  readonly violations: readonly string[]
}

const names = [...scenarios.map(({ name }) => name), 'pgbouncer']
const { only } = values
if (only !== undefined && !names.includes(only)) {
  throw new Error(`--only is one of ${names.join(', ')} (got ${only})`)
}
const pgbouncer = values.pgbouncer ?? findProgram('pgbouncer')
const missing = [...missingPrograms(), ...(pgbouncer ? [] : ['pgbouncer'])]
if (missing.length > 0) {
  const packages = 'postgresql patroni etcd-server etcd-client haproxy pgbouncer'
  throw new Error(`not installed: ${missing.join(', ')} (apt-get install ${packages})`)
}

await using opened = new AsyncDisposableStack()
const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-cluster-'))
opened.defer(async () => {
  if (values.keep) process.stderr.write(`The logs are in ${folder}\n`)
  else await rm(folder, { recursive: true, force: true })
})
// PostgreSQL and Patroni run as another user than root, who must get in.
await chmod(folder, 0o755)
if (!values.json) drawProgressOn(process.stderr)

/** Ends everything that was started, and then this process. */
function give(up: string): void {
  process.stderr.write(`\n${up}\n${JSON.stringify(outcomes)}\n`)
  process.exitCode = 1
  void opened.disposeAsync().finally(() => process.exit())
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => give(signal))
const tooLong = setTimeout(() => give('The rehearsal takes too long.'), limits.all)
opened.defer(async () => clearTimeout(tooLong))

const outcomes: Outcome[] = []
{
  using progress = showProgress()
  const step = (what: string) => progress.report(what, outcomes.length, names.length)
  step('Starting etcd, PostgreSQL under Patroni, and HAProxy')
  const cluster = opened.use(await startPatroniCluster(folder))
  const databaseUrl = await cluster.createDatabase('holdfast')
  await query(databaseUrl, probeTable)
  const chosen = scenarios.filter(({ name }) => only === undefined || name === only)
  if (chosen.length > 0) {
    step('Starting three nodes')
    await using fleet = await startFleet({ databaseUrl, count: 3 })
    for (const scenario of chosen) {
      step(scenario.title)
      outcomes.push(await rehearse(scenario, cluster, fleet))
    }
  }
  if (only === undefined || only === 'pgbouncer') {
    step('Starting PgBouncer and three nodes')
    outcomes.push(await rehearsePooled(cluster))
  }
}

/** The same fault with PgBouncer in between, in a database that it has migrated. */
async function rehearsePooled(cluster: PatroniCluster): Promise<Outcome> {
  await cluster.createDatabase('pooled')
  await using pooler = await startPgbouncer(pgbouncer ?? '', { folder, primary: cluster.primary })
  const prepared = pooler.followsStatements ? 'on' : 'off'
  await using fleet = await startFleet({
    databaseUrl: pooler.url('pooled'),
    count: 3,
    environment: { HOLDFAST_PREPARED_STATEMENTS: prepared },
  })
  const kill = scenarios.find(({ name }) => name === 'kill')
  if (!kill) throw new Error('there is no scenario kill')
  const title = `the leader is killed behind PgBouncer ${pooler.version} in transaction mode, prepared statements ${prepared}`
  // Awaited here: what is in use is closed when this function returns.
  return await rehearse({ ...kill, name: 'pgbouncer', title }, cluster, fleet)
}

/** Runs a scenario under load, waits until everything is whole again, and judges. */
async function rehearse(
  scenario: Scenario,
  cluster: PatroniCluster,
  fleet: Fleet,
): Promise<Outcome> {
  const found: string[] = []
  const violate = (violation: string) => found.push(violation)
  const witness = createWitness({ patienceMs })
  const load = startLoad(fleet, { workers: 6, fetch: witness.fetch })
  let testimony: Testimony | undefined
  // A limit of its own: what it waits for may never be.
  const timer = Promise.withResolvers<never>()
  const limit = setTimeout(() => timer.reject(new Error('it took too long')), limits.scenario)
  const play = async () => {
    await load.progress(5)
    // From here on: signing in takes its time, and is no fault.
    witness.begin()
    const before = load.accepted()
    await scenario.run({ cluster, load, violate })
    await cluster.isWhole()
    await load.progress(5)
    await allReady(fleet)
    await load.stop()
    testimony = witness.testify()
    const accepted = [...before.slice(-12), ...load.accepted().slice(-12)]
    for (const loss of await findLosses(fleet, load, { accepted, chains: load.chains }))
      violate(loss)
  }
  try {
    await Promise.race([play(), timer.promise])
  } catch (error) {
    violate(String(error))
  } finally {
    clearTimeout(limit)
    await load.stop().catch((error: unknown) => violate(String(error)))
  }
  testimony ??= witness.testify()
  for (const status of Object.keys(testimony.answers)) {
    if (!expected.has(status))
      violate(`${testimony.answers[status]} requests have ended in ${status}`)
  }
  const { name, title } = scenario
  const violations = [...new Set([...load.judge(), ...found])]
  return { scenario: name, title, ...testimony, violations }
}

function allReady({ nodes }: Fleet): Promise<void> {
  return until(async () => (await Promise.all(nodes.map((node) => node.isReady()))).every(Boolean))
}

const failed = outcomes.filter(({ violations }) => violations.length > 0).length
console.log(
  values.json
    ? JSON.stringify({ outcomes, failed })
    : [
        asTable(
          ['', 'Scenario', 'without service, s', 'longest wait, s', 'Answers'],
          outcomes.map((outcome) => [
            outcome.violations.length === 0 ? '✓' : { text: '✗', style: 'red' },
            `${outcome.scenario}: ${outcome.title}`,
            String(outcome.withoutService_s),
            String(outcome.longestWait_s),
            Object.entries(outcome.answers)
              .map(([status, times]) => `${times} × ${status}`)
              .join(', '),
          ]),
        ),
        ...outcomes.flatMap(({ scenario, violations }) =>
          violations.map((violation) => styleText('red', `${scenario}: ${violation}`)),
        ),
      ].join('\n\n'),
)
process.exitCode = failed === 0 ? 0 : 1
