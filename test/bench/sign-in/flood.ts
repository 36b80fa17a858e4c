import { setTimeout } from 'node:timers/promises'
import type { CandidateProcess } from '../token/candidate-process.ts'
import { boundTo, type Keys, prepare, send } from '../token/load.ts'
import { median } from '../token/measure.ts'
import { clientIdOf, type Way } from '../token/scenario.ts'
import { openPerson, redeem, signIn } from './people.ts'

/** Sign-ins with the Argon2 of production, and what they leave to refreshes. */
export interface Flood {
  /** The most that were reached while the slowest request of 99 of 100 took less than a second. */
  readonly sign_ins_per_s: number
  readonly at_once: number
  readonly p99_ms: number
  /** Refreshes a second during a flood of sign-ins, how many times those without. */
  readonly refreshes_ratio: number
  readonly refresh_p99_ms: number
  readonly refresh_p99_alone_ms: number
}

const secondsOfStep = 6
const rounds = 3
const refreshers = 8

const refresh: Way = { grant: 'refresh_token', method: 'client_secret_basic', binding: 'dpop' }

export async function measureFlood(
  candidate: CandidateProcess,
  key: Keys,
  { people, onStep }: { people: number; onStep: (step: string) => void },
): Promise<Flood> {
  let best = { sign_ins_per_s: 0, at_once: 0, p99_ms: 0 }
  for (const atOnce of [2, 4, 8, 16]) {
    onStep(`Signing in, ${atOnce} at once`)
    const { count, p99_ms } = await signInFor(candidate, key, { people, atOnce })
    const sign_ins_per_s = Math.round((count / secondsOfStep) * 10) / 10
    if (p99_ms < 1000 && sign_ins_per_s > best.sign_ins_per_s) {
      best = { sign_ins_per_s, at_once: atOnce, p99_ms }
    }
  }
  const order = { kind: 'RefreshToken', clientId: clientIdOf(refresh), count: refreshers } as const
  const tokens = await candidate.makeCredentials({ ...order, bound: boundTo(refresh, key) })
  const alone: Refreshes[] = []
  const beside: Refreshes[] = []
  for (let round = 0; round < rounds; round += 1) {
    onStep(`Refreshing beside a flood, round ${round + 1} of ${rounds}`)
    alone.push(await refreshFor(candidate, key, tokens))
    const flood = signInFor(candidate, key, { people, atOnce: 40 })
    beside.push(await refreshFor(candidate, key, tokens))
    await flood
  }
  const ratios = beside.map(({ count }, at) => count / (alone[at]?.count ?? Number.NaN))
  return {
    ...best,
    refreshes_ratio: Math.round(median(ratios) * 100) / 100,
    refresh_p99_ms: median(beside.map(({ p99_ms }) => p99_ms)),
    refresh_p99_alone_ms: median(alone.map(({ p99_ms }) => p99_ms)),
  }
}

/** Whole sign-ins for some seconds. One that is answered 503 waits, and counts for nothing. */
async function signInFor(
  candidate: CandidateProcess,
  key: Keys,
  { people, atOnce }: { people: number; atOnce: number },
) {
  const end = performance.now() + secondsOfStep * 1000
  const latencies: number[] = []
  let count = 0
  const timed =
    (fetch: typeof globalThis.fetch): typeof globalThis.fetch =>
    async (...request) => {
      const begun = performance.now()
      const response = await fetch(...request)
      latencies.push(performance.now() - begun)
      return response
    }
  await Promise.all(
    Array.from({ length: atOnce }, async (_, at) => {
      while (performance.now() < end) {
        const person = openPerson(candidate, at % people, timed)
        const code = await signIn(person, 'with consent').catch(() => undefined)
        if (code === undefined) await setTimeout(200)
        else {
          await redeem(candidate, key, code)
          if (performance.now() < end) count += 1
        }
      }
    }),
  )
  return { count, p99_ms: p99(latencies) }
}

type Refreshes = Awaited<ReturnType<typeof refreshFor>>

/** Refreshes for some seconds, each by the token of the one before, which `tokens` are left with. */
async function refreshFor(candidate: CandidateProcess, key: Keys, tokens: string[]) {
  const end = performance.now() + (secondsOfStep - 1) * 1000
  const latencies: number[] = []
  await Promise.all(
    tokens.map(async (_, at) => {
      while (performance.now() < end) {
        const prepared = prepare(candidate, refresh, key, undefined)
        const begun = performance.now()
        const { status, body } = await send(candidate, prepared, tokens[at])
        if (status !== 200) throw new Error(`a refresh failed: ${body.error}`)
        latencies.push(performance.now() - begun)
        tokens[at] = body.refresh_token ?? ''
      }
    }),
  )
  return { count: latencies.length, p99_ms: p99(latencies) }
}

function p99(latencies: number[]): number {
  const sorted = latencies.toSorted((a, b) => a - b)
  return Math.round(sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN)
}
