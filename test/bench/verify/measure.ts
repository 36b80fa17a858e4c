/** CPU time of contestants that take turns. */

/** One of those compared: `prepare` makes the work outside the clock, `run` does it. */
export type Contestant = Readonly<{
  name: string
  /** How many operations a turn has. */
  operations: number
  /** How many operations are under way at once. */
  concurrency?: number
  prepare(operations: number): readonly unknown[]
  run(item: never): unknown
}>

/** CPU microseconds per operation of each contestant, one figure a round. */
export type Measurements = ReadonlyMap<string, readonly number[]>

/** Told of a round that begins: how many of how many are over. */
export type OnRound = (done: number, total: number) => void

export async function measure(
  contestants: readonly Contestant[],
  rounds: number,
  warmUp: number,
  onRound: OnRound = () => {},
): Promise<Measurements> {
  const measured = new Map<string, number[]>(contestants.map(({ name }) => [name, []]))
  for (let round = -warmUp; round < rounds; round++) {
    onRound(round + warmUp, rounds + warmUp)
    for (const contestant of contestants) {
      const cost = await takeTurn(contestant)
      if (round >= 0) measured.get(contestant.name)?.push(cost)
    }
  }
  return measured
}

async function takeTurn(contestant: Contestant): Promise<number> {
  const { operations, prepare } = contestant
  const items = prepare(operations) as never[]
  // What was left over from making the items. A major collection would cost V8 its optimised code.
  globalThis.gc?.({ type: 'minor' } as never)
  const before = process.cpuUsage()
  await runAll(contestant, items)
  const { user, system } = process.cpuUsage(before)
  return (user + system) / operations
}

async function runAll({ run, concurrency = 1 }: Contestant, items: readonly never[]) {
  if (concurrency > 1) {
    for (let at = 0; at < items.length; at += concurrency) {
      await Promise.all(items.slice(at, at + concurrency).map((item) => run(item)))
    }
    return
  }
  for (const item of items) {
    const result = run(item)
    if (result instanceof Promise) await result
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
}

/** The median of the ratios of each round: both had the same weather then. */
export function ratio(measured: Measurements, above: string, below: string): number {
  const denominators = measured.get(below) ?? []
  return median((measured.get(above) ?? []).map((cost, i) => cost / (denominators[i] as number)))
}
