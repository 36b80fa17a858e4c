import { lifetimes } from '../../../src/config/lifetimes.ts'
import type { Cost, Grown } from './meter.ts'

export const operations = [
  'person',
  'first_sign_in',
  'later_sign_in',
  'service_grant',
  'refresh',
  'introspection',
] as const
export type Operation = (typeof operations)[number]
export type Costs = Readonly<Record<Operation, Cost>>

/** What one person does in a day. Change these for what your people do. */
export const habits = {
  /** In a browser that has no session: every two weeks, which is how long one lives. */
  first_sign_in: 1 / 14,
  /** In a browser where the person is signed in. */
  later_sign_in: 1,
  refresh: 10,
  service_grant: 2,
  introspection: 0,
} as const satisfies Partial<Record<Operation, number>>

/** The busiest second, in multiples of the average one. */
export const peak = 5

const dayS = 24 * 60 * 60

/** Seconds for which rows stay, by table, or by kind of artifact; a minute of cleanup included. */
const keptS: Readonly<Record<string, number>> = {
  'artifacts: AccessToken': lifetimes.AccessToken + 60,
  'artifacts: AuthorizationCode': lifetimes.AuthorizationCode + 60,
  'artifacts: ClientCredentials': lifetimes.ClientCredentials + 60,
  'artifacts: Grant': lifetimes.Grant,
  audit_events: 365 * dayS,
  counted_events: 7 * dayS,
  // A proof is good for a minute or two, and an entry stays a minute longer.
  replay_marks: 4 * 60,
  rate_limits: 60 * 60,
  security_events: 90 * dayS,
}

/** Everything else lives as long as a session and a refresh token. */
const secondsOf = (table: string) => keptS[table] ?? lifetimes.RefreshToken

const sumOf = (tables: Cost['tables'], of: (grown: Grown, table: string) => number) =>
  Object.entries(tables).reduce((total, [table, grown]) => total + of(grown, table), 0)

/** Rows or bytes that one operation leaves. */
export const leftBy = ({ tables }: Cost, what: keyof Grown) => sumOf(tables, (grown) => grown[what])

const gigabyte = 1e9

/** What so many people need. */
export function needsOf(people: number, costs: Costs) {
  const names = Object.keys(habits) as (keyof typeof habits)[]
  const perS = (name: keyof typeof habits) => (people * habits[name]) / dayS
  const sum = (of: (name: keyof typeof habits) => number) =>
    names.reduce((total, name) => total + of(name), 0)
  const kept = (what: keyof Grown) =>
    people * leftBy(costs.person, what) +
    sum((name) =>
      sumOf(costs[name].tables, (grown, table) => perS(name) * secondsOf(table) * grown[what]),
    )
  return {
    people,
    sign_ins_a_second: peak * (perS('first_sign_in') + perS('later_sign_in')),
    grants_a_second: peak * (perS('refresh') + perS('service_grant')),
    statements_a_second: peak * sum((name) => perS(name) * costs[name].statements),
    million_rows: kept('rows') / 1e6,
    gigabytes: kept('bytes') / gigabyte,
    wal_gigabytes_a_day: (dayS * sum((name) => perS(name) * costs[name].walBytes)) / gigabyte,
    node_cores: (peak * sum((name) => perS(name) * costs[name].nodeCpuMs)) / 1000,
    postgres_cores: (peak * sum((name) => perS(name) * costs[name].postgresCpuMs)) / 1000,
  }
}

/** Gigabytes of WAL of a day at so many operations a second. */
export function walOfDay({ walBytes }: Cost, perSecond: number): number {
  return (walBytes * perSecond * dayS) / gigabyte
}
