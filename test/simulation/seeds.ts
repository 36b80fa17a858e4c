import { seeded } from './choices.ts'
import type { Plant } from './plants.ts'
import { type Run, run } from './run.ts'

export interface Search {
  readonly runs: number
  readonly requests: number
  /** The first seed whose run breaks a rule. */
  readonly failed: { readonly seed: number; readonly run: Run } | undefined
}

/** Runs seeds one after the other until one fails. */
export async function findFailure(
  { from = 1, count }: { from?: number; count: number },
  plant?: Plant,
): Promise<Search> {
  let requests = 0
  for (let seed = from; seed < from + count; seed += 1) {
    const made = await run(seeded(seed), plant)
    requests += made.requests
    if (made.violations.length > 0) {
      return { runs: seed - from + 1, requests, failed: { seed, run: made } }
    }
  }
  return { runs: count, requests, failed: undefined }
}
