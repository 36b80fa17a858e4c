/** What was seen of one node at one moment. */
export interface MemorySample {
  /** Minutes since the beginning. */
  readonly minute: number
  /** What objects take: the heap and what hangs on it, right after garbage was collected. */
  readonly megabytes: number
  /** The resident set. It grows until V8 has as much room as it likes, and says little of a leak. */
  readonly resident: number
}

/** What was seen of one table at the end. */
export interface TableSample {
  readonly table: string
  readonly rows: number
  /** Rows that expired before the last two rounds of cleanup began. */
  readonly left: number
  readonly megabytes: number
}

export interface Soaked {
  /** For each node its samples. */
  readonly memory: readonly (readonly MemorySample[])[]
  readonly tables: readonly TableSample[]
  readonly violations: readonly string[]
  readonly answers: Readonly<Record<string, number>>
}

/** The share of a run in which memory is still being taken: code is compiled, pools are filled. */
const warmUp = 1 / 3

/** Megabytes that a node may take in a minute after that: what a leak of a few bytes a request is. */
const steepest = 2

function warm(samples: readonly MemorySample[]): readonly MemorySample[] {
  const end = samples.at(-1)?.minute ?? 0
  return samples.filter(({ minute }) => minute >= end * warmUp)
}

/** How a value moved after the warm-up, in megabytes a minute: the slope of least squares. */
export function slope(
  samples: readonly MemorySample[],
  value: (sample: MemorySample) => number,
): number {
  const seen = warm(samples)
  const mean = (of: (sample: MemorySample) => number) =>
    seen.reduce((sum, sample) => sum + of(sample), 0) / seen.length
  const [x, y] = [mean(({ minute }) => minute), mean(value)]
  const covariance = mean((sample) => (sample.minute - x) * (value(sample) - y))
  const variance = mean(({ minute }) => (minute - x) ** 2)
  return variance === 0 ? Number.NaN : covariance / variance
}

/**
 * How the least memory that a node needs grew after the warm-up, in megabytes a minute. Requests
 * that are under way move the slope up and down; a leak stays.
 */
export function floorGrowth(samples: readonly MemorySample[]): number {
  const seen = warm(samples)
  const [begin, end] = [seen.at(0)?.minute ?? 0, seen.at(-1)?.minute ?? 0]
  const half = (end - begin) / 2
  const least = (part: readonly MemorySample[]) =>
    Math.min(...part.map(({ megabytes }) => megabytes))
  const [early, late] = [
    least(seen.filter(({ minute }) => minute < begin + half)),
    least(seen.filter(({ minute }) => minute >= begin + half)),
  ]
  return half > 0 ? (late - early) / half : Number.NaN
}

/** Whether each criterion held. Too short a run proves nothing, and fails. */
export function judge({ memory, tables, violations, answers }: Soaked): Record<string, boolean> {
  const troubles = Object.keys(answers).filter((status) => !/^[234]\d\d$/.test(status))
  return {
    nothing_used_twice_and_nothing_lost: violations.length === 0,
    every_request_answered: Number(answers['200']) > 0 && troubles.length === 0,
    memory_flat: memory.length > 0 && memory.every((samples) => floorGrowth(samples) <= steepest),
    tables_hold_live_rows_only: tables.length > 0 && tables.every(({ left }) => left === 0),
  }
}
