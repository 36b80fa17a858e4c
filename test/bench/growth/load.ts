import type { CandidateProcess } from '../token/candidate-process.ts'
import { boundTo, type Keys, prepare, send } from '../token/load.ts'
import { clientIdOf, type Way } from '../token/scenario.ts'
import type { GrowthGrant } from './result.ts'

export const atOnce = 16

export const wayOf = (grant: GrowthGrant): Way => ({
  grant,
  method: 'client_secret_basic',
  binding: 'dpop',
})

/** Refresh tokens for the slots of a load that refreshes. */
export async function slotsOf(
  candidate: CandidateProcess,
  key: Keys,
  grant: GrowthGrant,
): Promise<(string | undefined)[]> {
  const way = wayOf(grant)
  if (grant !== 'refresh_token') return Array.from({ length: atOnce }, () => undefined)
  const bound = boundTo(way, key)
  return candidate.makeCredentials({
    ...{ kind: 'RefreshToken', clientId: clientIdOf(way), bound },
    count: atOnce,
  })
}

export interface Sent {
  readonly times: readonly number[]
  readonly failures: number
}

/**
 * Asks for tokens from sixteen slots until `isOver`, and signs each proof just before it is sent: the
 * signer is another process than the server. Times are milliseconds of each request.
 */
export async function sendUntil(
  candidate: CandidateProcess,
  key: Keys,
  { grant, slots }: { grant: GrowthGrant; slots: (string | undefined)[] },
  isOver: (sent: number) => boolean,
): Promise<Sent> {
  const way = wayOf(grant)
  const times: number[] = []
  let begun = 0
  let failures = 0
  await Promise.all(
    slots.map(async (_token, slot) => {
      while (!isOver(begun)) {
        begun += 1
        const ready = prepare(candidate, way, key, undefined)
        const began = performance.now()
        const answer = await send(candidate, ready, slots[slot]).catch(() => undefined)
        times.push(performance.now() - began)
        if (answer?.status !== 200) failures += 1
        if (answer?.body.refresh_token) slots[slot] = answer.body.refresh_token
      }
    }),
  )
  return { times, failures }
}

export function percentile(times: readonly number[], share: number): number {
  const sorted = times.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}
