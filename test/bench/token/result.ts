import { median, type Sample } from './measure.ts'
import {
  canDo,
  type Grant,
  isMeasuredAlone,
  nameOf,
  type Peer,
  type Way,
  ways,
} from './scenario.ts'

export interface Measured {
  readonly samples: Readonly<Record<Peer, readonly Sample[]>>
  /** Of Holdfast, by the name of the way. */
  readonly roundTrips: Readonly<Record<string, number>>
  /** Successes of sixteen at once, by what was sent sixteen times. */
  readonly races: Readonly<Record<string, number>>
  /** Of Holdfast, in bytes. */
  readonly peakMemory: number
}

export interface Result {
  /** Grants a second, how many times those of a peer. */
  readonly ratios: Record<string, number>
  /** CPU of a grant: how many times ours a peer takes, and ours alone beside ours of sixteen. */
  readonly cpu_ratios: Record<string, number>
  readonly round_trips: Record<string, number>
  readonly grants_per_s: Record<string, number>
  /** Microseconds of CPU of a grant, Node.js and PostgreSQL. */
  readonly cpu_us: Record<string, number>
  readonly peak_memory_mb: number
  /** Requests that failed, by candidate, way and concurrency; those of which none failed are left out. */
  readonly failures: Readonly<Record<string, number>>
  readonly gates: Record<string, boolean>
  readonly failed: number
}

/** What has to hold: all of it, and nothing else, decides about the exit code. */
export const floors = {
  /** How many times the CPU of a grant the stock engine takes on knex. */
  knexCpu: 4,
  /** How many times as many grants a second there are as with the stock engine on knex. */
  knexSpeed: 3,
  /** The same beside the stock engine that keeps everything in memory. */
  memorySpeed: 1.2,
  /** How many times the CPU of what is written by hand a grant may take. */
  handCpu: 1.5,
  /** How many times the CPU of one of sixteen a grant may take that comes alone. */
  aloneCpu: 1.4,
  statements: {
    client_credentials: 1,
    refresh_token: 2,
    authorization_code: 2,
    device_code: 2,
    introspection: 1,
  } satisfies Record<Grant, number>,
  peakMemoryMb: 300,
} as const

/** Ratios are medians over the rounds, each round against its own neighbours. */
export function judge({ samples, roundTrips, races, peakMemory }: Measured): Result {
  const ratios: Record<string, number> = {}
  const cpu_ratios: Record<string, number> = {}
  const grants_per_s: Record<string, number> = {}
  const cpu_us: Record<string, number> = {}
  const gates: Record<string, boolean> = {}
  for (const way of ways) {
    const name = nameOf(way)
    const of = (peer: Peer, concurrency = 16) => pick(samples[peer], way, concurrency)
    const speed = (peer: Peer) => of(peer).map((sample) => sample.grantsPerSecond)
    const cpu = (peer: Peer, concurrency?: number) => of(peer, concurrency).map(cpuOf)
    for (const peer of ['knex', 'memory', 'hand'] as const) {
      if (!canDo(peer, way)) continue
      ratios[`${name}_vs_${peer}`] = medianRatio(speed('holdfast'), speed(peer))
      cpu_ratios[`${name}_vs_${peer}`] = medianRatio(cpu(peer), cpu('holdfast'))
    }
    gates[`${name}_speed_vs_knex`] = holds(ratios[`${name}_vs_knex`], '>=', floors.knexSpeed)
    gates[`${name}_cpu_vs_knex`] = holds(cpu_ratios[`${name}_vs_knex`], '>=', floors.knexCpu)
    gates[`${name}_speed_vs_memory`] = holds(ratios[`${name}_vs_memory`], '>=', floors.memorySpeed)
    gates[`${name}_statements`] = holds(roundTrips[name], '<=', floors.statements[way.grant])
    grants_per_s[name] = round(median(speed('holdfast')))
    cpu_us[`${name}_at_16`] = Math.round(median(cpu('holdfast')))
    if (!isMeasuredAlone(way)) continue
    cpu_us[`${name}_at_1`] = Math.round(median(cpu('holdfast', 1)))
    for (const peer of ['holdfast', 'hand'] as const) {
      const alone = peer === 'holdfast' ? `${name}_alone` : `${name}_alone_by_hand`
      cpu_ratios[alone] = medianRatio(cpu(peer, 1), cpu(peer))
    }
    gates[`${name}_cpu_alone`] = holds(cpu_ratios[`${name}_alone`], '<=', floors.aloneCpu)
    const byHand = 1 / (cpu_ratios[`${name}_vs_hand`] ?? Number.NaN)
    gates[`${name}_cpu_vs_hand`] = holds(byHand, '<=', floors.handCpu)
  }
  for (const [name, successes] of Object.entries(races)) {
    gates[name] = name.startsWith('one_proof') ? successes === 1 : successes <= 1
  }
  const peak_memory_mb = Math.round(peakMemory / 1024 ** 2)
  gates.peak_memory = holds(peak_memory_mb, '<=', floors.peakMemoryMb)
  const failures: Record<string, number> = {}
  for (const [peer, all] of Object.entries(samples)) {
    for (const sample of all.filter((each) => each.failures > 0)) {
      const name = `${peer}_${nameOf(sample)}_at_${sample.concurrency}`
      failures[name] = (failures[name] ?? 0) + sample.failures
    }
  }
  gates.no_failed_request = Object.keys(failures).length === 0
  const failed = Object.values(gates).filter((held) => !held).length
  const round_trips = { ...roundTrips }
  return {
    ...{ ratios, cpu_ratios, round_trips, grants_per_s, cpu_us, peak_memory_mb },
    ...{ failures, gates, failed },
  }
}

/** The samples of one way at one concurrency. */
export function pick(samples: readonly Sample[], way: Way, concurrency: number): Sample[] {
  const name = nameOf(way)
  return samples.filter((sample) => nameOf(sample) === name && sample.concurrency === concurrency)
}

/** Microseconds of CPU, Node.js and PostgreSQL. */
export function cpuOf({ nodeCpu, postgresCpu }: Sample): number {
  return nodeCpu + postgresCpu
}

function medianRatio(ours: readonly number[], theirs: readonly number[]): number {
  return round(median(ours.map((value, at) => value / (theirs[at] ?? Number.NaN))))
}

function holds(value = Number.NaN, relation: '<=' | '>=', floor = Number.NaN): boolean {
  return relation === '<=' ? value <= floor : value >= floor
}

function round(value: number): number {
  return Math.round(value * 100) / 100
}
