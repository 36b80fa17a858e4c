import type { CandidateProcess } from './candidate-process.ts'
import { boundTo, type Keys, type Prepared, prepare, send, sendAll } from './load.ts'
import type { openPostgresMeter } from './postgres-cpu.ts'
import { clientIdOf, isMeasuredAlone, kindOf, type Way, ways } from './scenario.ts'

/** What is measured by itself. */
export interface Cell extends Way {
  readonly concurrency: 1 | 16
}

export const cells: readonly Cell[] = ways.flatMap((way) => [
  { ...way, concurrency: 16 },
  ...(isMeasuredAlone(way) ? [{ ...way, concurrency: 1 } as const] : []),
])

/** One cell of one candidate, once. */
export interface Sample extends Cell {
  readonly grantsPerSecond: number
  /** Microseconds of CPU for one grant. */
  readonly nodeCpu: number
  readonly postgresCpu: number
  readonly failures: number
}

export interface Bench {
  readonly key: Keys
  readonly postgres: Awaited<ReturnType<typeof openPostgresMeter>>
}

export async function measure(
  candidate: CandidateProcess,
  { key, postgres }: Bench,
  cell: Cell,
  count: number,
): Promise<Sample> {
  const { prepared, slots } = await prepareAll(candidate, cell, key, count, cell.concurrency)
  const before = await candidate.usage()
  await postgres.lap()
  const { seconds, failures } = await sendAll(candidate, prepared, slots)
  const postgresCpu = (await postgres.lap()) / count
  const nodeCpu = ((await candidate.usage()).cpu - before.cpu) / count
  return { ...cell, grantsPerSecond: count / seconds, nodeCpu, postgresCpu, failures }
}

/**
 * Requests, each with what it uses up, and a slot for each of those that are sent at once: with a
 * refresh token, where that is what they use.
 */
async function prepareAll(
  candidate: CandidateProcess,
  way: Way,
  key: Keys,
  count: number,
  atOnce: number,
): Promise<{ prepared: Prepared[]; slots: (string | undefined)[] }> {
  const kind = kindOf[way.grant]
  const isSlot = kind === 'RefreshToken'
  const needed = kind === 'AccessToken' ? 1 : isSlot ? atOnce : count
  const order = { clientId: clientIdOf(way), bound: boundTo(way, key), count: needed }
  const made = kind ? await candidate.makeCredentials({ ...order, kind }) : []
  return {
    prepared: Array.from({ length: count }, (_, at) =>
      prepare(candidate, way, key, made[at % needed]),
    ),
    slots: Array.from({ length: atOnce }, (_, at) => (isSlot ? made[at] : undefined)),
  }
}

/** SQL statements of one grant, sent alone: the median of some. */
export async function countRoundTrips(
  candidate: CandidateProcess,
  { key }: Bench,
  way: Way,
): Promise<number> {
  const counts: number[] = []
  while (counts.length < 5) {
    const { prepared, slots } = await prepareAll(candidate, way, key, 1, 1)
    const { statements } = await candidate.usage()
    await sendAll(candidate, prepared, slots)
    counts.push((await candidate.usage()).statements - statements)
  }
  return median(counts)
}

/** How many of sixteen requests at once with one DPoP proof succeed. */
export async function raceOneProof(
  candidate: CandidateProcess,
  { key }: Bench,
  way: Way,
): Promise<number> {
  const { prepared, slots } = await prepareAll(candidate, way, key, 16, 16)
  const { dpop } = prepared[0]?.headers ?? {}
  const answers = await Promise.all(
    prepared.map((ready, at) => {
      const headers = { ...ready.headers, dpop: dpop as string }
      return send(candidate, { ...ready, headers }, slots[at])
    }),
  )
  return answers.filter(({ status }) => status === 200).length
}

/** How many of sixteen requests at once with one refresh token succeed. */
export async function raceOneRefreshToken(
  candidate: CandidateProcess,
  { key }: Bench,
  way: Way,
): Promise<number> {
  const { prepared, slots } = await prepareAll(candidate, way, key, 16, 1)
  const answers = await Promise.all(prepared.map((ready) => send(candidate, ready, slots[0])))
  return answers.filter(({ status }) => status === 200).length
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2
}
