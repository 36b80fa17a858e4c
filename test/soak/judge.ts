/** Memory of one node, after it has answered so many requests. */
export interface MemorySample {
  readonly requests: number
  readonly megabytes: number
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
  /** What objects take on a node that collects its garbage before each look. */
  readonly held: readonly MemorySample[]
  /** The resident set of each node that was left alone. */
  readonly resident: readonly (readonly MemorySample[])[]
  readonly tables: readonly TableSample[]
  readonly violations: readonly string[]
  readonly answers: Readonly<Record<string, number>>
}

/*
 * The last quarter of a run, by requests, is judged by what was before it. Requests and not minutes:
 * code is compiled, caches are filled and garbage is made by requests, and a machine that others use
 * as well takes longer for them.
 *
 * Both measures move by themselves. What objects take moves with the requests that are under way and
 * with code that V8 compiles and drops: a megabyte is free. A resident set moves with the room that
 * V8 takes before it collects, and sinks when V8 has little to do: its highest mark counts. The C
 * library takes what it needs in steps of up to four megabytes: six are free. Beyond that so many
 * bytes a request are free that a leak of a kilobyte a request fails both: of a quarter of 10,000
 * requests it makes 10 megabytes, where 2 are free of what is held, and 8.5 of the resident set. In
 * shorter runs the former sees it alone.
 */
const free = {
  held: { megabytes: 1, bytesPerRequest: 100 },
  resident: { megabytes: 6, bytesPerRequest: 250 },
}

/** Requests of the last quarter below which what is free hides what a run is to show. */
export const fewestRequests = 3000

/** Megabytes of a node with the limits of docker/compose.yaml, which gives it twice as many. */
export const mostMegabytes = 256

interface Quarters {
  readonly before: readonly MemorySample[]
  readonly third: readonly MemorySample[]
  readonly last: readonly MemorySample[]
  /** In the last one. */
  readonly requests: number
}

function quartersOf(samples: readonly MemorySample[]): Quarters {
  const end = samples.at(-1)?.requests ?? 0
  const from = (share: number) => samples.filter(({ requests }) => requests >= end * share)
  const last = from(3 / 4)
  const before = samples.slice(0, -last.length)
  return { before, third: from(1 / 2).slice(0, -last.length), last, requests: end / 4 }
}

const megabytes = ({ megabytes }: MemorySample) => megabytes
const least = (samples: readonly MemorySample[]) => Math.min(...samples.map(megabytes))
const most = (samples: readonly MemorySample[]) => Math.max(...samples.map(megabytes))

/** Megabytes by which the least that was held rose from the third quarter to the last. */
export function riseOfHeld(samples: readonly MemorySample[]): number {
  const { third, last } = quartersOf(samples)
  return least(last) - least(third)
}

/** Megabytes by which a resident set was higher in the last quarter than at any time before. */
export function riseOfResident(samples: readonly MemorySample[]): number {
  const { before, last } = quartersOf(samples)
  return most(last) - most(before)
}

function isFree(rise: number, kind: keyof typeof free, samples: readonly MemorySample[]): boolean {
  const { megabytes, bytesPerRequest } = free[kind]
  const most = megabytes + (bytesPerRequest * quartersOf(samples).requests) / 1e6
  return Number.isFinite(rise) && rise <= most
}

/** Whether each criterion held. A run that saw nothing, or too little, proves nothing and fails. */
export function judge({
  held,
  resident,
  tables,
  violations,
  answers,
}: Soaked): Record<string, boolean> {
  const troubles = Object.keys(answers).filter((status) => !/^[234]\d\d$/.test(status))
  const everyNode = (holds: (samples: readonly MemorySample[]) => boolean) =>
    resident.length > 0 && resident.every(holds)
  return {
    nothing_used_twice_and_nothing_lost: violations.length === 0,
    every_request_answered: Number(answers['200']) > 0 && troubles.length === 0,
    requests_enough_to_judge_memory: [held, ...resident].every(
      (samples) => quartersOf(samples).requests >= fewestRequests,
    ),
    held_memory_flat: isFree(riseOfHeld(held), 'held', held),
    resident_set_at_rest: everyNode((samples) =>
      isFree(riseOfResident(samples), 'resident', samples),
    ),
    resident_set_bounded: everyNode((samples) => most(samples) <= mostMegabytes),
    tables_hold_live_rows_only: tables.length > 0 && tables.every(({ left }) => left === 0),
  }
}
