import type { CandidateProcess } from './candidate-process.ts'
import { type Key, prepare, send, sendAll } from './load.ts'
import type { openPostgresMeter } from './postgres-cpu.ts'
import { type Grant, grants, type Method, methods } from './scenario.ts'

const concurrencies = [1, 16] as const

/** What is measured by itself. */
export interface Cell {
  readonly grant: Grant
  readonly method: Method
  readonly concurrency: number
}

export const cells: readonly Cell[] = grants.flatMap((grant) =>
  methods.flatMap((method) => concurrencies.map((concurrency) => ({ grant, method, concurrency }))),
)

/** One cell of one candidate, once. */
export interface Sample extends Cell {
  readonly grantsPerSecond: number
  /** Microseconds of CPU for one grant. */
  readonly nodeCpu: number
  readonly postgresCpu: number
  readonly failures: number
}

export interface Bench {
  readonly key: Key
  readonly postgres: Awaited<ReturnType<typeof openPostgresMeter>>
}

export async function measure(
  candidate: CandidateProcess,
  { key, postgres }: Bench,
  { grant, method, concurrency }: Cell,
  count: number,
): Promise<Sample> {
  const slots = await makeSlots(candidate, { grant, method, key, count: concurrency })
  const prepared = Array.from({ length: count }, () => prepare(candidate, { grant, method, key }))
  const before = await candidate.usage()
  await postgres.lap()
  const { seconds, failures } = await sendAll(candidate, prepared, slots)
  const postgresCpu = (await postgres.lap()) / count
  const nodeCpu = ((await candidate.usage()).cpu - before.cpu) / count
  const grantsPerSecond = count / seconds
  return { grant, method, concurrency, grantsPerSecond, nodeCpu, postgresCpu, failures }
}

/** SQL statements of one grant, sent alone: the median of some. */
export async function countRoundTrips(
  candidate: CandidateProcess,
  { key }: Bench,
  { grant, method }: { grant: Grant; method: Method },
): Promise<number> {
  const slots = await makeSlots(candidate, { grant, method, key, count: 1 })
  const counts: number[] = []
  while (counts.length < 9) {
    const { statements } = await candidate.usage()
    await sendAll(candidate, [prepare(candidate, { grant, method, key })], slots)
    counts.push((await candidate.usage()).statements - statements)
  }
  return median(counts)
}

/** How many of sixteen requests at once with one DPoP proof succeed. */
export async function raceOneProof(
  candidate: CandidateProcess,
  { key }: Bench,
  { grant, method }: { grant: Grant; method: Method },
): Promise<number> {
  const slots = await makeSlots(candidate, { grant, method, key, count: 16 })
  const { dpop } = prepare(candidate, { grant, method, key }).headers
  const answers = await Promise.all(
    slots.map((token) => {
      const { headers, form } = prepare(candidate, { grant, method, key })
      return send(candidate, { headers: { ...headers, dpop: dpop as string }, form }, token)
    }),
  )
  return answers.filter(({ status }) => status === 200).length
}

/** How many of sixteen requests at once with one refresh token succeed. */
export async function raceOneRefreshToken(
  candidate: CandidateProcess,
  { key }: Bench,
  method: Method,
): Promise<number> {
  const grant = 'refresh'
  const [token] = await makeSlots(candidate, { grant, method, key, count: 1 })
  const prepared = Array.from({ length: 16 }, () => prepare(candidate, { grant, method, key }))
  const answers = await Promise.all(prepared.map((ready) => send(candidate, ready, token)))
  return answers.filter(({ status }) => status === 200).length
}

function makeSlots(
  candidate: CandidateProcess,
  { grant, method, key, count }: { grant: Grant; method: Method; key: Key; count: number },
): Promise<string[]> | undefined[] {
  return grant === 'refresh'
    ? candidate.makeRefreshTokens(`bench-${method}`, method === 'bearer' ? '' : key.jkt, count)
    : Array(count).fill(undefined)
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2
}
