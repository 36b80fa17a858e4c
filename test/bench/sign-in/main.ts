/*
 * What a sign-in costs: an authorization request, the password, consent, the code and its tokens, by
 * the real server on a PostgreSQL of its own that keeps every commit. First which statements each
 * request waits for, by name; then CPU and WAL of a sign-in, eight people at once, with the cheapest
 * Argon2 there is, so that everything else is left; then, with the Argon2 of production, how many
 * people sign in in a second, and refreshes beside a flood of them. The gates are those of `judge`;
 * the exit code is 1 when one of them does not hold. About two minutes.
 *
 * npm run bench:sign-in [-- --json] [--quick]
 */
import { parseArgs, styleText } from 'node:util'
import { defaultPasswordCost } from '../../../src/accounts/password.ts'
import { drawProgressOn, showProgress } from '../../../src/commands/progress.ts'
import { asTable } from '../../../src/commands/table.ts'
import { freePort } from '../../../src/net/free-port.ts'
import { cheapCost } from '../../support/accounts.ts'
import type { Person } from '../../support/flow.ts'
import { query } from '../../support/query.ts'
import { openBenchDatabase } from '../database.ts'
import { type CandidateProcess, startCandidate } from '../token/candidate-process.ts'
import { makeKeys } from '../token/load.ts'
import { median } from '../token/measure.ts'
import { openPostgresMeter } from '../token/postgres-cpu.ts'
import { type Flood, measureFlood } from './flood.ts'
import { openPerson, redeem, type SignIn, signIn, ways } from './people.ts'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
  },
})
/** Besides the first one. A quick run has no flood. */
const rounds = values.quick ? 1 : 5
const peopleOfRound = values.quick ? 24 : 48
const atOnce = 8

interface Cost {
  /** Of the server, without Argon2. */
  readonly node_ms: number
  readonly postgres_ms: number
  readonly wal_bytes: number
}

interface Result {
  /** By request, in the order in which they come. */
  readonly statements: Readonly<Record<SignIn, readonly [request: string, names: string[]][]>>
  readonly costs: Readonly<Record<SignIn, Cost>>
  readonly flood: Flood | undefined
}

drawProgressOn(values.json ? undefined : process.stderr)
using progress = showProgress()
await using opened = new AsyncDisposableStack()
const { connectionString } = opened.use(await openBenchDatabase())
const key = await makeKeys()
const result: Result = {
  ...(await measureSignIns()),
  flood: values.quick ? undefined : await floodServer(),
}
progress.rest()
const gates = judge(result)
console.log(values.json ? JSON.stringify({ ...result, gates }) : report(result))
process.exitCode = Object.values(gates).every(Boolean) ? 0 : 1

async function open(name: string, people: { count: number; cost: typeof defaultPasswordCost }) {
  progress.report(`Starting ${name}`, 0, 0)
  await query(connectionString, `create database ${name}`)
  const url = new URL(connectionString)
  url.pathname = `/${name}`
  const options = { databaseUrl: url.href, port: await freePort(), clientKeys: key.public, people }
  return { url: url.href, candidate: opened.use(await startCandidate('holdfast', options)) }
}

async function measureSignIns(): Promise<Pick<Result, 'statements' | 'costs'>> {
  const count = peopleOfRound * (rounds + 1) + 1
  const { url, candidate } = await open('signins', { count, cost: cheapCost })
  await using postgres = await openPostgresMeter(connectionString)
  const samples: Record<SignIn, Cost[]> = {
    'with consent': [],
    'consent given before': [],
    'signed in before': [],
  }
  // The first round compiles, and has PostgreSQL log whole pages.
  for (let round = -1; round < rounds; round += 1) {
    progress.report(`Round ${round + 1} of ${rounds}`, round + 1, rounds)
    const first = (round + 1) * peopleOfRound
    const people = Array.from({ length: peopleOfRound }, (_, at) =>
      openPerson(candidate, first + at, (fetch) => fetch),
    )
    for (const way of ways) {
      const cost = await costOf(candidate, { url, postgres, people }, way)
      if (round >= 0) samples[way].push(cost)
    }
  }
  const costs = mapWays((way) => ({
    node_ms: median(samples[way].map(({ node_ms }) => node_ms)),
    postgres_ms: median(samples[way].map(({ postgres_ms }) => postgres_ms)),
    wal_bytes: Math.round(median(samples[way].map(({ wal_bytes }) => wal_bytes))),
  }))
  return { statements: await listStatements(candidate, count - 1), costs }
}

async function costOf(
  candidate: CandidateProcess,
  {
    url,
    postgres,
    people,
  }: {
    url: string
    postgres: Awaited<ReturnType<typeof openPostgresMeter>>
    people: readonly Person[]
  },
  way: SignIn,
): Promise<Cost> {
  const [wal, { cpu }] = [await walOf(url), await candidate.usage()]
  await postgres.lap()
  const waiting = [...people]
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (let person = waiting.pop(); person; person = waiting.pop()) {
        await redeem(candidate, key, await signIn(person, way))
      }
    }),
  )
  const postgresUs = await postgres.lap()
  return {
    node_ms: ((await candidate.usage()).cpu - cpu) / 1000 / people.length,
    postgres_ms: postgresUs / 1000 / people.length,
    wal_bytes: ((await walOf(url)) - wal) / people.length,
  }
}

async function walOf(url: string): Promise<number> {
  const [row] = await query(
    url,
    `select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 as bytes`,
  )
  return Number(row?.bytes)
}

/** One person alone, whose requests are looked at one by one. */
async function listStatements(candidate: CandidateProcess, number: number) {
  let requests: [string, string[]][] = []
  const person = openPerson(candidate, number, (fetch) => async (input, init) => {
    const response = await fetch(input, init)
    const name = `${init?.method ?? 'GET'} ${new URL(String(input)).pathname}`
    requests.push([name.replace(/\/[\w-]{43}/, '/:uid'), await candidate.takeStatements()])
    return response
  })
  await candidate.takeStatements()
  const listed: [SignIn, [string, string[]][]][] = []
  for (const way of ways) {
    requests = []
    const code = await signIn(person, way)
    await redeem(candidate, key, code)
    listed.push([way, [...requests, ['POST /token', await candidate.takeStatements()]]])
  }
  return Object.fromEntries(listed) as Record<SignIn, [string, string[]][]>
}

async function floodServer(): Promise<Flood> {
  const { candidate } = await open('flood', { count: 64, cost: defaultPasswordCost })
  const onStep = (step: string) => progress.report(step, 0, 0)
  return measureFlood(candidate, key, { people: 64, onStep })
}

function mapWays<Value>(make: (way: SignIn) => Value): Record<SignIn, Value> {
  return Object.fromEntries(ways.map((way) => [way, make(way)])) as Record<SignIn, Value>
}

function countOf({ statements }: Result, way: SignIn): number {
  return statements[way].flatMap(([, names]) => names).length
}

function judge(result: Result): Record<string, boolean> {
  const { costs, flood } = result
  const held = Object.values(costs)
  return {
    'at most 12 statements with consent': countOf(result, 'with consent') <= 12,
    'at most 8 statements without': countOf(result, 'consent given before') <= 8,
    'at most 2 ms of PostgreSQL': held.every(({ postgres_ms }) => postgres_ms <= 2),
    'at most 4 KB of WAL': held.every(({ wal_bytes }) => wal_bytes <= 4096),
    'at most 4 ms of our CPU without Argon2': held.every(({ node_ms }) => node_ms <= 4),
    ...(flood && {
      'half of the refreshes beside a flood of sign-ins': flood.refreshes_ratio >= 0.5,
    }),
  }
}

function report(result: Result): string {
  const { statements, costs, flood } = result
  const rows = ways.map((way) => {
    const { node_ms, postgres_ms, wal_bytes } = costs[way]
    return [way, countOf(result, way), postgres_ms.toFixed(2), wal_bytes, node_ms.toFixed(2)]
  })
  const head = ['sign-in', 'statements', 'PostgreSQL, ms', 'WAL, bytes', 'our CPU, ms']
  const listed = ways.flatMap((way) => [
    '',
    styleText('bold', way),
    ...statements[way].map(([request, names]) => `  ${request}: ${names.join(', ') || 'none'}`),
  ])
  return [
    asTable(
      head,
      rows.map((row) => row.map(String)),
    ),
    ...listed,
    '',
    ...(flood
      ? [
          `${flood.sign_ins_per_s} sign-ins a second at p99 ${flood.p99_ms} ms, ` +
            `${flood.at_once} at once; refreshes beside a flood of sign-ins: ` +
            `${flood.refreshes_ratio} times those without, p99 ${flood.refresh_p99_ms} ms ` +
            `(${flood.refresh_p99_alone_ms} ms without).`,
          '',
        ]
      : []),
    ...Object.entries(judge(result)).map(([gate, holds]) =>
      holds ? `${styleText('green', '✓')} ${gate}` : `${styleText('red', '✗')} ${gate}`,
    ),
  ].join('\n')
}
