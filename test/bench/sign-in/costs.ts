import type { Profiler } from 'node:inspector'
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'
import { hashPasswordSync, verifyPasswordSync } from '../../../src/accounts/password.ts'
import { cheapCost } from '../../support/accounts.ts'
import type { CandidateProcess } from '../token/candidate-process.ts'
import type { Keys } from '../token/load.ts'
import { median } from '../token/measure.ts'
import { openPostgresMeter } from '../token/postgres-cpu.ts'
import { password } from '../token/scenario.ts'
import { openPerson, redeem, type SignIn, signIn, ways } from './people.ts'

/** What was used by a sign-in, or in a second in which nobody signed in. */
export interface Cost {
  /** Of the server's process, without Argon2, V8's own threads included. */
  readonly node_ms: number
  readonly postgres_ms: number
  /** Without pages that are logged whole because they are the first to change after a checkpoint. */
  readonly wal_bytes: number
  /** Those pages. */
  readonly wal_page_bytes: number
}

export interface Costs {
  /** Of a sign-in; the CPU of an idle server is subtracted for as long as the sign-ins took. */
  readonly costs: Readonly<Record<SignIn, Cost>>
  readonly idle_second: Cost
  /** Of one password, which is subtracted where one is asked for. */
  readonly argon2_ms: number
  /** Our CPU of a request that asks for nothing: what HTTP takes of each of the requests. */
  readonly empty_request_ms: number
  readonly warm_up: {
    readonly sign_ins: number
    /** Whether the last rounds were no cheaper than those before. */
    readonly steady: boolean
    /** Our CPU of a sign-in with consent, by round: how long it takes until the code is compiled. */
    readonly node_ms: readonly number[]
  }
  readonly profile: Profile | undefined
}

/** Where the time goes, of a sign-in in each of the ways together. */
export interface Profile {
  readonly node: Profiler.Profile
  readonly statements: readonly StatementCost[]
}

/** What PostgreSQL spends in one statement, without its commit. */
export interface StatementCost {
  readonly text: string
  readonly calls: number
  readonly ms: number
  readonly wal_bytes: number
}

export interface CostOptions {
  readonly key: Keys
  /** Of the database that the candidate uses. */
  readonly databaseUrl: string
  readonly people: number
  readonly rounds: number
  readonly warmUpRounds: number
  /** Whether further rounds make a profile of the server. */
  readonly profiled: boolean
  readonly onStep: (step: string) => void
}

const atOnce = 8
const idleSeconds = 5
const profileRounds = 4

/**
 * Warms the server up, until a sign-in costs what it cost in the rounds before: a server that has
 * just started compiles its code, and its first hundreds of sign-ins cost several times as much. Then
 * measures an idle server, and rounds of sign-ins.
 */
export async function measureCosts(
  candidate: CandidateProcess,
  { key, databaseUrl, people: count, rounds, warmUpRounds, profiled, onStep }: CostOptions,
): Promise<Costs> {
  await using meter = await openMeter(candidate, databaseUrl)
  const spend = async (way: SignIn, people: readonly Person[], idle?: Cost) => {
    const waiting = [...people]
    await meter.lap()
    await Promise.all(
      Array.from({ length: atOnce }, async () => {
        for (let person = waiting.pop(); person; person = waiting.pop()) {
          await redeem(candidate, key, await signIn(person, way))
        }
      }),
    )
    return meter.lap().then((spent) => costOf(spent, people.length, idle))
  }
  const runRound = async (idle?: Cost) => {
    const people = Array.from({ length: count }, (_, at) =>
      openPerson(candidate, at, (fetch) => fetch),
    )
    const costs: [SignIn, Cost][] = []
    for (const way of ways) costs.push([way, await spend(way, people, idle)])
    return Object.fromEntries(costs) as Record<SignIn, Cost>
  }

  const warming: number[] = []
  while (warming.length < warmUpRounds && !isSteady(warming)) {
    onStep(`Warming up, round ${warming.length + 1} of ${warmUpRounds} at most`)
    warming.push((await runRound())['with consent'].node_ms)
  }
  onStep('Idling')
  // What requests have left to do is done by then.
  await setTimeout(2000)
  await meter.lap()
  await setTimeout(idleSeconds * 1000)
  const spentIdle = await meter.lap()
  const idle = costOf(spentIdle, spentIdle.seconds)
  const samples: Record<SignIn, Cost>[] = []
  while (samples.length < rounds) {
    onStep(`Round ${samples.length + 1} of ${rounds}`)
    samples.push(await runRound(idle))
  }
  onStep('Profiling')
  const profile = profiled
    ? await profileOf(candidate, { databaseUrl, people: count }, runRound)
    : undefined
  const argon2_ms = costOfPassword()
  const empty_request_ms = await costOfRequest(candidate, meter, idle)
  const medianOf = (way: SignIn, member: keyof Cost) =>
    median(samples.map((sample) => sample[way][member]))
  const costs = ways.map((way): [SignIn, Cost] => [
    way,
    {
      node_ms: medianOf(way, 'node_ms') - (way === 'signed in before' ? 0 : argon2_ms),
      postgres_ms: medianOf(way, 'postgres_ms'),
      wal_bytes: Math.round(medianOf(way, 'wal_bytes')),
      wal_page_bytes: Math.round(medianOf(way, 'wal_page_bytes')),
    },
  ])
  return {
    costs: Object.fromEntries(costs) as Record<SignIn, Cost>,
    idle_second: idle,
    argon2_ms,
    empty_request_ms,
    profile,
    warm_up: {
      sign_ins: warming.length * ways.length * count,
      steady: isSteady(warming),
      node_ms: warming,
    },
  }
}

async function profileOf(
  candidate: CandidateProcess,
  { databaseUrl, people }: Pick<CostOptions, 'databaseUrl' | 'people'>,
  runRound: () => Promise<unknown>,
): Promise<Profile> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  await client.query('create extension if not exists pg_stat_statements')
  await client.query('select pg_stat_statements_reset()')
  await candidate.startProfile()
  for (let round = 0; round < profileRounds; round += 1) await runRound()
  const node = await candidate.profile()
  const { rows } = await client.query<StatementCost>(
    `select left(regexp_replace(query, '\\s+', ' ', 'g'), 70) as text,
            calls / $1::float8 as calls, total_exec_time / $1 as ms,
            wal_bytes::float8 / $1 as wal_bytes
       from pg_stat_statements where not query ~ 'pg_stat|pg_get_wal' order by 3 desc limit 20`,
    [profileRounds * people],
  )
  await client.end()
  return { node, statements: rows }
}

async function costOfRequest({ issuer }: CandidateProcess, meter: Meter, idle: Cost) {
  const requests = 2000
  let left = requests
  const send = async () => {
    while (left-- > 0) await (await fetch(`${issuer}/livez`)).text()
  }
  await meter.lap()
  await Promise.all(Array.from({ length: atOnce }, send))
  return costOf(await meter.lap(), requests, idle).node_ms
}

/** CPU of checking one password at the cheapest cost, in milliseconds. */
function costOfPassword(): number {
  const passwordHash = hashPasswordSync(password, cheapCost)
  const checks = 200
  const before = process.cpuUsage()
  for (let check = 0; check < checks; check += 1) verifyPasswordSync(passwordHash, password)
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000 / checks
}

type Person = ReturnType<typeof openPerson>

/** Whether none of the last four rounds cost less than 97 % of the cheapest before them. */
function isSteady(rounds: readonly number[]): boolean {
  if (rounds.length < 8) return false
  return Math.min(...rounds.slice(-4)) > 0.97 * Math.min(...rounds.slice(0, -4))
}

type Meter = Awaited<ReturnType<typeof openMeter>>

interface Spent extends Cost {
  readonly seconds: number
}

function costOf(spent: Spent, count: number, idle?: Cost): Cost {
  const of = (member: keyof Cost) => (spent[member] - (idle?.[member] ?? 0) * spent.seconds) / count
  return {
    node_ms: of('node_ms'),
    postgres_ms: of('postgres_ms'),
    wal_bytes: of('wal_bytes'),
    wal_page_bytes: of('wal_page_bytes'),
  }
}

/** What the server and PostgreSQL have used between two laps. PostgreSQL is that of a bench. */
async function openMeter(candidate: CandidateProcess, databaseUrl: string) {
  await using opened = new AsyncDisposableStack()
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  opened.defer(() => client.end())
  const postgres = opened.use(await openPostgresMeter(databaseUrl))
  await client.query('create extension if not exists pg_walinspect')
  // Pages that change are logged whole by their first change after this: before the measurement.
  await client.query('checkpoint')
  const walEnd = async () => {
    const { rows } = await client.query<{ lsn: string }>('select pg_current_wal_flush_lsn() as lsn')
    return rows[0]?.lsn ?? ''
  }
  const read = async () => {
    const { cpu } = await candidate.usage()
    return { cpu, at: performance.now(), lsn: await walEnd() }
  }
  let last = await read()
  const open = opened.move()
  return {
    async lap(): Promise<Spent> {
      const postgresUs = await postgres.lap()
      const now = await read()
      const { rows } = await client.query<{ whole: number; pages: number }>(
        `select pg_wal_lsn_diff($2, $1)::float8 as whole,
                (select coalesce(sum(fpi_size), 0)::float8 from pg_get_wal_stats($1, $2)
                  where $1 <> $2) as pages`,
        [last.lsn, now.lsn],
      )
      const { whole = 0, pages = 0 } = rows[0] ?? {}
      const spent = {
        node_ms: (now.cpu - last.cpu) / 1000,
        postgres_ms: postgresUs / 1000,
        wal_bytes: whole - pages,
        wal_page_bytes: pages,
        seconds: (now.at - last.at) / 1000,
      }
      // Reading the log of the lap is no part of the next one.
      await postgres.lap()
      last = await read()
      return spent
    },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}
