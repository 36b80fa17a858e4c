import { median, type Sample } from './measure.ts'
import { type Grant, grants, type Method, methods, type Peer } from './scenario.ts'

export interface Measured {
  readonly samples: Readonly<Record<Peer, readonly Sample[]>>
  /** Of Holdfast, by `<grant>_<auth>`. */
  readonly roundTrips: Readonly<Record<string, number>>
  /** Successes of sixteen at once, by what was sent sixteen times. */
  readonly races: Readonly<Record<string, number>>
  /** Of Holdfast, in bytes. */
  readonly peakMemory: number
}

export interface Result {
  readonly ratios: Record<string, number>
  readonly cpu_ratios: Record<string, number>
  readonly round_trips: Record<string, number>
  readonly grants_per_s: Record<string, number>
  /** Microseconds of CPU of a grant, Node.js and PostgreSQL. */
  readonly cpu_us: Record<string, number>
  readonly peak_memory_mb: number
  readonly gates: Record<string, boolean>
  readonly failed: number
}

const roundTripBudget: Readonly<Record<string, number>> = {
  client_credentials_basic: 1,
  client_credentials_private_key_jwt: 1,
  refresh_basic: 2,
  refresh_private_key_jwt: 2,
}
const knexFloor = { speed: 3, cpu: 4 }
const memoryFloor = 1.2
/** How much more CPU a grant may cost that comes alone. */
const aloneCeiling = 1.4
const memoryCeilingMb = 300

/** Ratios are medians over the rounds of concurrency 16, each round against its own neighbours. */
export function judge({ samples, roundTrips, races, peakMemory }: Measured): Result {
  const ratios: Record<string, number> = {}
  const cpu_ratios: Record<string, number> = {}
  const grants_per_s: Record<string, number> = {}
  const cpu_us: Record<string, number> = {}
  const gates: Record<string, boolean> = {}
  for (const grant of grants) {
    for (const method of methods) {
      const name = `${grant}_${method}`
      const of = (peer: Peer) => pick(samples[peer], grant, method, 16)
      const speed = (peer: Peer) => of(peer).map((sample) => sample.grantsPerSecond)
      const cpuAt = (peer: Peer, concurrency: number) =>
        pick(samples[peer], grant, method, concurrency).map(
          (sample) => sample.nodeCpu + sample.postgresCpu,
        )
      const cpu = (peer: Peer) => cpuAt(peer, 16)
      for (const peer of ['knex', 'memory'] as const) {
        ratios[`${name}_vs_${peer}`] = medianRatio(speed('holdfast'), speed(peer))
        cpu_ratios[`${name}_vs_${peer}`] = medianRatio(cpu(peer), cpu('holdfast'))
      }
      grants_per_s[name] = round(median(speed('holdfast')))
      for (const concurrency of [1, 16]) {
        cpu_us[`${name}_at_${concurrency}`] = Math.round(median(cpuAt('holdfast', concurrency)))
      }
      const alone = medianRatio(cpuAt('holdfast', 1), cpu('holdfast'))
      cpu_ratios[`${name}_alone`] = alone
      gates[`${name}_cpu_alone`] = holds(alone, '<=', aloneCeiling)
      gates[`${name}_round_trips`] = holds(roundTrips[name], '<=', roundTripBudget[name])
      gates[`${name}_speed_vs_knex`] = holds(ratios[`${name}_vs_knex`], '>=', knexFloor.speed)
      gates[`${name}_cpu_vs_knex`] = holds(cpu_ratios[`${name}_vs_knex`], '>=', knexFloor.cpu)
      gates[`${name}_speed_vs_memory`] = holds(ratios[`${name}_vs_memory`], '>=', memoryFloor)
    }
  }
  for (const [name, successes] of Object.entries(races)) {
    gates[name] = name.startsWith('one_proof') ? successes === 1 : successes <= 1
  }
  const peak_memory_mb = Math.round(peakMemory / 1024 ** 2)
  gates.peak_memory = holds(peak_memory_mb, '<=', memoryCeilingMb)
  gates.no_failed_request = Object.values(samples).every((all) =>
    all.every(({ failures }) => failures === 0),
  )
  const failed = Object.values(gates).filter((held) => !held).length
  const round_trips = { ...roundTrips }
  return { ratios, cpu_ratios, round_trips, grants_per_s, cpu_us, peak_memory_mb, gates, failed }
}

export function pick(
  samples: readonly Sample[],
  grant: Grant,
  method: Method,
  concurrency: number,
): Sample[] {
  return samples.filter(
    (sample) =>
      sample.grant === grant && sample.method === method && sample.concurrency === concurrency,
  )
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
