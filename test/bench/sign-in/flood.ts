import { setTimeout } from 'node:timers/promises'
import { type Child, startChild } from '../hostile/child.ts'
import type { CandidateProcess } from '../token/candidate-process.ts'
import { boundTo, type Keys } from '../token/load.ts'
import { median } from '../token/measure.ts'
import { clientIdOf, type Way } from '../token/scenario.ts'

/** Sign-ins with the Argon2 of production, and what they leave to refreshes. */
export interface Flood {
  /** The most that were reached while the slowest request of 99 of 100 took less than a second. */
  readonly sign_ins_per_s: number
  readonly at_once: number
  readonly p99_ms: number
  /** Refreshes a second during a flood of sign-ins, how many times those without. */
  readonly refreshes_ratio: number
  readonly refreshes_per_s: number
  readonly refresh_p99_ms: number
  readonly refresh_p99_alone_ms: number
  /** Sign-ins a second beside those refreshes. */
  readonly sign_ins_beside_per_s: number
}

/** What one phase has seen. */
export interface LoadReport {
  /** Sign-ins or refreshes a second that were finished in time. */
  readonly per_s: number
  /** Of the requests of them. */
  readonly p99_ms: number
}

/** Who signs in: they have an account each, and come again. */
export const peopleCount = 64
export const refresh: Way = {
  grant: 'refresh_token',
  method: 'client_secret_basic',
  binding: 'dpop',
}

const secondsOfStep = 6
const rounds = 3
const refreshers = 8
const flood = 40

/** People and clients each come from a process of their own. */
export async function measureFlood(
  candidate: CandidateProcess,
  key: Keys,
  onStep: (step: string) => void,
): Promise<Flood> {
  const order = { kind: 'RefreshToken', clientId: clientIdOf(refresh), count: refreshers } as const
  const tokens = await candidate.makeCredentials({ ...order, bound: boundTo(refresh, key) })
  const { issuer, secrets } = candidate
  const start = (tokens: string[] | null) =>
    startChild<LoadReport>('../sign-in/load.ts', { issuer, secrets }, key, tokens)
  await using people = await start(null)
  await using clients = await start(tokens)

  onStep('Warming up')
  await runFor(secondsOfStep, [people, 8], [clients, refreshers])
  let best = { sign_ins_per_s: 0, at_once: 0, p99_ms: 0 }
  for (const atOnce of [2, 4, 8, 16]) {
    onStep(`Signing in, ${atOnce} at once`)
    const [{ per_s, p99_ms }] = await runFor(secondsOfStep, [people, atOnce])
    if (p99_ms < 1000 && per_s > best.sign_ins_per_s) {
      best = { sign_ins_per_s: rounded(per_s, 10), at_once: atOnce, p99_ms }
    }
  }
  const alone: LoadReport[] = []
  const beside: LoadReport[] = []
  const floods: LoadReport[] = []
  for (let round = 0; round < rounds; round += 1) {
    onStep(`Refreshing beside a flood, round ${round + 1} of ${rounds}`)
    alone.push(...(await runFor(secondsOfStep, [clients, refreshers])))
    const [refreshes, signIns] = await runFor(secondsOfStep, [clients, refreshers], [people, flood])
    beside.push(refreshes)
    floods.push(signIns)
  }
  const medianOf = (reports: LoadReport[], member: keyof LoadReport) =>
    median(reports.map((report) => report[member]))
  return {
    ...best,
    refreshes_ratio: rounded(
      median(beside.map(({ per_s }, at) => per_s / (alone[at]?.per_s ?? Number.NaN))),
      100,
    ),
    refreshes_per_s: Math.round(medianOf(alone, 'per_s')),
    refresh_p99_ms: medianOf(beside, 'p99_ms'),
    refresh_p99_alone_ms: medianOf(alone, 'p99_ms'),
    sign_ins_beside_per_s: rounded(medianOf(floods, 'per_s'), 10),
  }
}

type Load = readonly [child: Child<LoadReport>, atOnce: number]

/** Several loads for as long. */
async function runFor<const Loads extends readonly Load[]>(seconds: number, ...loads: Loads) {
  for (const [child, atOnce] of loads) child.begin(String(atOnce))
  await setTimeout(seconds * 1000)
  const reports = await Promise.all(loads.map(([child]) => child.report()))
  return reports as unknown as { [At in keyof Loads]: LoadReport }
}

const rounded = (value: number, parts: number) => Math.round(value * parts) / parts
