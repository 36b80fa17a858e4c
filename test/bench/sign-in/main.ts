/*
 * What a sign-in costs: an authorization request, the password, consent, the code and its tokens, by
 * the real server on a PostgreSQL of its own that keeps every commit. First which statements each
 * request waits for, by name; then CPU and WAL of a sign-in, eight people at once, with the cheapest
 * Argon2 there is, so that everything else is left, by a server that is warm; then, with the Argon2
 * of production, how many people sign in in a second, and refreshes beside a flood of them. The gates
 * are those of `judge`; the exit code is 1 when one of them does not hold. About four minutes.
 *
 * npm run bench:sign-in [-- --json] [--quick] [--profile]
 */
import { parseArgs, styleText } from 'node:util'
import { defaultPasswordCost } from '../../../src/accounts/password.ts'
import { drawProgressOn, showProgress } from '../../../src/commands/progress.ts'
import { asTable } from '../../../src/commands/table.ts'
import { freePort } from '../../../src/net/free-port.ts'
import { cheapCost } from '../../support/accounts.ts'
import { query } from '../../support/query.ts'
import { openBenchDatabase } from '../database.ts'
import { type CandidateProcess, startCandidate } from '../token/candidate-process.ts'
import { makeKeys } from '../token/load.ts'
import { sharesReport } from '../token/shares.ts'
import { type Cost, type Costs, measureCosts, type StatementCost } from './costs.ts'
import { type Flood, measureFlood, peopleCount } from './flood.ts'
import { openPerson, redeem, type SignIn, signIn, ways } from './people.ts'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
  },
})
const size = values.quick
  ? { people: 24, rounds: 1, warmUpRounds: 4 }
  : { people: 48, rounds: 5, warmUpRounds: 30 }

/** Whose statements are listed. */
const listedPeople = 3

interface Result extends Costs {
  /** By request, in the order in which they come. */
  readonly statements: Readonly<Record<SignIn, readonly [request: string, names: string[]][]>>
  /** Not of a quick run. */
  readonly flood: Flood | undefined
}

drawProgressOn(values.json ? undefined : process.stderr)
using progress = showProgress()
await using opened = new AsyncDisposableStack()
const { connectionString } = opened.use(
  await openBenchDatabase({ countsStatements: values.profile }),
)
const key = await makeKeys()
const result: Result = {
  ...(await measureSignIns()),
  flood: values.quick ? undefined : await floodServer(),
}
progress.rest()
const gates = judge(result)
console.log(values.json ? JSON.stringify({ ...result, profile: undefined, gates }) : report(result))
process.exitCode = Object.values(gates).every(Boolean) ? 0 : 1

async function open(name: string, people: { count: number; cost: typeof defaultPasswordCost }) {
  progress.report(`Starting ${name}`, 0, 0)
  await query(connectionString, `create database ${name}`)
  const url = new URL(connectionString)
  url.pathname = `/${name}`
  const options = { databaseUrl: url.href, port: await freePort(), clientKeys: key.public, people }
  return { url: url.href, candidate: opened.use(await startCandidate('holdfast', options)) }
}

async function measureSignIns(): Promise<Omit<Result, 'flood'>> {
  const people = { count: size.people + listedPeople, cost: cheapCost }
  const { url: databaseUrl, candidate } = await open('signins', people)
  const onStep = (step: string) => progress.report(step, 0, 0)
  const costs = await measureCosts(candidate, {
    ...size,
    key,
    databaseUrl,
    onStep,
    profiled: values.profile,
  })
  return { ...costs, statements: await listStatements(candidate, size.people) }
}

type Statements = Result['statements']

/**
 * Of some people the one with the fewest statements: what a node remembers for some seconds is read
 * again by one of them, for everyone.
 */
async function listStatements(candidate: CandidateProcess, first: number) {
  const lists: Statements[] = []
  for (let at = 0; at < listedPeople; at += 1) lists.push(await statementsOf(candidate, first + at))
  const all = (listed: Statements) =>
    Object.values(listed)
      .flat()
      .flatMap(([, names]) => names)
  return lists.toSorted((one, other) => all(one).length - all(other).length)[0] as Statements
}

/** One person alone, whose requests are looked at one by one. */
async function statementsOf(candidate: CandidateProcess, number: number) {
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
  const people = { count: peopleCount, cost: defaultPasswordCost }
  const { candidate } = await open('flood', people)
  return measureFlood(candidate, key, (step) => progress.report(step, 0, 0))
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
    'at most 4 KB of WAL, but for whole pages': held.every(({ wal_bytes }) => wal_bytes <= 4096),
    'at most 4 ms of our CPU without Argon2': held.every(({ node_ms }) => node_ms <= 4),
    ...(flood && {
      'half of the refreshes beside a flood of sign-ins': flood.refreshes_ratio >= 0.5,
    }),
  }
}

/** Of one sign-in in each of the ways, one after the other. */
function statementsReport(statements: readonly StatementCost[]): string {
  return asTable(
    ['statement', 'calls', 'ms', 'WAL, bytes'],
    statements.map(({ text, calls, ms, wal_bytes }) => [
      text,
      calls.toFixed(2),
      ms.toFixed(3),
      wal_bytes.toFixed(0),
    ]),
  )
}

function report(result: Result): string {
  const { statements, costs, idle_second, argon2_ms, empty_request_ms, warm_up, profile, flood } =
    result
  const cells = (cost: Cost) => [
    cost.postgres_ms.toFixed(2),
    cost.wal_bytes.toFixed(0),
    cost.wal_page_bytes.toFixed(0),
    cost.node_ms.toFixed(2),
  ]
  const rows = ways.map((way) => [way, String(countOf(result, way)), ...cells(costs[way])])
  const head = [
    'sign-in',
    'statements',
    'PostgreSQL, ms',
    'WAL, bytes',
    'whole pages',
    'our CPU, ms',
  ]
  const listed = ways.flatMap((way) => [
    '',
    styleText('bold', way),
    ...statements[way].map(([request, names]) => `  ${request}: ${names.join(', ') || 'none'}`),
  ])
  return [
    asTable(head, [...rows, ['an idle second', '', ...cells(idle_second)]]),
    'The CPU of an idle server is subtracted from the sign-ins for as long as they took, and so is ' +
      `${argon2_ms.toFixed(2)} ms of Argon2. Of our CPU a request that asks for nothing takes ` +
      `${empty_request_ms.toFixed(2)} ms.`,
    `The server was warm after ${warm_up.sign_ins} sign-ins: our CPU went from ` +
      `${warm_up.node_ms[0]?.toFixed(1)} to ${warm_up.node_ms.at(-1)?.toFixed(1)} ms` +
      (warm_up.steady ? '.' : ', and had not become steady.'),
    ...listed,
    '',
    ...(profile ? [sharesReport(profile.node), statementsReport(profile.statements), ''] : []),
    ...(flood
      ? [
          `${flood.sign_ins_per_s} sign-ins a second at p99 ${flood.p99_ms} ms, ` +
            `${flood.at_once} at once; refreshes beside a flood of sign-ins: ` +
            `${flood.refreshes_ratio} times the ${flood.refreshes_per_s} a second without, ` +
            `p99 ${flood.refresh_p99_ms} ms (${flood.refresh_p99_alone_ms} ms without), beside ` +
            `${flood.sign_ins_beside_per_s} sign-ins a second.`,
          '',
        ]
      : []),
    ...Object.entries(judge(result)).map(([gate, holds]) =>
      holds ? `${styleText('green', '✓')} ${gate}` : `${styleText('red', '✗')} ${gate}`,
    ),
  ].join('\n')
}
