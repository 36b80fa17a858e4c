/** Values of options that several commands have. */
import { InvalidArgumentError } from 'commander'

const units: Readonly<Record<string, number>> = { m: 60, h: 60 * 60, d: 24 * 60 * 60 }

/** A duration such as 30m, 12h or 7d, in seconds. */
export function asSeconds(text: string): number {
  const [, count, unit = ''] = /^(\d{1,4})([mhd])$/.exec(text) ?? []
  const seconds = Number(count) * (units[unit] ?? Number.NaN)
  if (!(seconds >= 60 && seconds <= 365 * 24 * 60 * 60)) {
    throw new InvalidArgumentError('Expected a duration from 1m to 365d.')
  }
  return seconds
}

/** A number from 1 to 10000. */
export function asCount(text: string): number {
  const count = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (count < 1 || count > 10_000) throw new InvalidArgumentError('Expected 1 to 10000.')
  return count
}
