import { median, type Sample } from './measure.ts'
import { type Grant, grants, type Method, methods, type Peer } from './scenario.ts'

export interface Measured {
  readonly samples: Readonly<Record<Peer, readonly Sample[]>>
  /** Of Holdfast, by `<grant>_<auth>`. */
  readonly roundTrips: Readonly<Record<string, number>>
  /** Successes of sixteen at once, by what was sent sixteen times. */
  readonly races: Readonly<Record<string, number>>
}

export interface Result {
  readonly ratios: Record<string, number>
  readonly cpu_ratios: Record<string, number>
  readonly round_trips: Record<string, number>
  readonly grants_per_s: Record<string, number>
  readonly gates: Record<string, boolean>
  readonly failed: number
}

const roundTripBudget: Readonly<Record<string, number>> = {
  client_credentials_basic: 1,
  client_credentials_private_key_jwt: 2,
  refresh_basic: 3,
  refresh_private_key_jwt: 4,
}
const knexFloor = 1.7
const memoryFloor = { client_credentials: 0.75, refresh: 0.6 }

/** Ratios are medians over the rounds of concurrency 16, each round against its own neighbours. */
export function judge({ samples, roundTrips, races }: Measured): Result {
  const ratios: Record<string, number> = {}
  const cpu_ratios: Record<string, number> = {}
  const grants_per_s: Record<string, number> = {}
  const gates: Record<string, boolean> = {}
  for (const grant of grants) {
    for (const method of methods) {
      const name = `${grant}_${method}`
      const of = (peer: Peer) => pick(samples[peer], grant, method, 16)
      const speed = (peer: Peer) => of(peer).map((sample) => sample.grantsPerSecond)
      const cpu = (peer: Peer) => of(peer).map((sample) => sample.nodeCpu + sample.postgresCpu)
      for (const peer of ['knex', 'memory'] as const) {
        ratios[`${name}_vs_${peer}`] = medianRatio(speed('holdfast'), speed(peer))
        cpu_ratios[`${name}_vs_${peer}`] = medianRatio(cpu(peer), cpu('holdfast'))
      }
      grants_per_s[name] = round(median(speed('holdfast')))
      gates[`${name}_round_trips`] = holds(roundTrips[name], '<=', roundTripBudget[name])
      gates[`${name}_speed_vs_knex`] = holds(ratios[`${name}_vs_knex`], '>=', knexFloor)
      gates[`${name}_cpu_vs_knex`] = holds(cpu_ratios[`${name}_vs_knex`], '>=', knexFloor)
      gates[`${name}_speed_vs_memory`] = holds(
        ratios[`${name}_vs_memory`],
        '>=',
        memoryFloor[grant],
      )
    }
  }
  for (const [name, successes] of Object.entries(races)) {
    gates[name] = name.startsWith('one_proof') ? successes === 1 : successes <= 1
  }
  gates.no_failed_request = Object.values(samples).every((all) =>
    all.every(({ failures }) => failures === 0),
  )
  const failed = Object.values(gates).filter((held) => !held).length
  return { ratios, cpu_ratios, round_trips: { ...roundTrips }, grants_per_s, gates, failed }
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
