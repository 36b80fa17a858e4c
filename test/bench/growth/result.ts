import { median } from '../token/measure.ts'

export type GrowthGrant = 'client_credentials' | 'refresh_token'

/** One round of one grant at one size. */
export interface GrowthSample {
  readonly rows: number
  readonly grant: GrowthGrant
  /** Whether expired rows were being removed meanwhile. */
  readonly cleaning: boolean
  /** Microseconds of CPU of a grant, Node.js and PostgreSQL. */
  readonly cpuUs: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly failures: number
}

/** What was seen at the end of one minute at full speed. */
export interface Minute {
  readonly grants: number
  readonly p99Ms: number
  readonly rows: number
  readonly bytes: number
  readonly backlog: number
  readonly failures: number
}

export interface Growth {
  readonly sizes: readonly number[]
  readonly samples: readonly GrowthSample[]
  /** Rows that the cleanup in the middle had to remove, and has left, at each size. */
  readonly cleanups: readonly { rows: number; expired: number; left: number }[]
  readonly minutes: readonly Minute[]
}

/** How many times the cost at the smallest size the cost at the largest may be. */
export const mostGrowth = 1.25

/**
 * Of a short run the p99 is not judged: of a hundred requests it is the slowest one, which the
 * machine decides about.
 */
export function judgeGrowth(growth: Growth, { judgesP99 }: { judgesP99: boolean }) {
  const gates: Record<string, boolean> = {}
  const ratios: Record<string, number> = {}
  const [first = 0] = growth.sizes
  const last = growth.sizes.at(-1) ?? 0
  // A run of the minutes alone compares no sizes.
  const grants = growth.sizes.length > 1 ? (['client_credentials', 'refresh_token'] as const) : []
  for (const grant of grants) {
    for (const cost of ['cpuUs', 'p99Ms'] as const) {
      const name = `${grant}_${cost === 'cpuUs' ? 'cpu' : 'p99'}`
      ratios[name] = ratio(pick(growth, last, grant, cost), pick(growth, first, grant, cost))
      if (cost === 'cpuUs' || judgesP99) gates[name] = ratios[name] <= mostGrowth
    }
  }
  if (grants.length > 0)
    gates.cleanup_in_the_middle = growth.cleanups.every(({ left }) => left === 0)
  gates.no_backlog = growth.minutes.length > 0 && growth.minutes.at(-1)?.backlog === 0
  gates.no_failed_request = [...growth.samples, ...growth.minutes].every(
    ({ failures }) => failures === 0,
  )
  const failed = Object.values(gates).filter((passed) => !passed).length
  return { ratios, gates, failed }
}

/** The samples of one size: rounds of all sizes are interleaved, and compared one by one. */
export function pick(
  { samples }: Pick<Growth, 'samples'>,
  rows: number,
  grant: GrowthGrant,
  cost: 'cpuUs' | 'p50Ms' | 'p99Ms',
  cleaning?: boolean,
): number[] {
  return samples
    .filter((each) => each.rows === rows && each.grant === grant)
    .filter((each) => cleaning === undefined || each.cleaning === cleaning)
    .map((each) => each[cost])
}

function ratio(last: readonly number[], first: readonly number[]): number {
  const each = last.map((value, round) => value / (first[round] ?? Number.NaN))
  return Math.round(median(each) * 100) / 100
}
