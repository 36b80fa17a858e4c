import { z } from 'zod'

/** When keys change; all in milliseconds. */
export interface KeysConfig {
  /** From one key's first signature to the next one's; infinite when only commands rotate. */
  readonly rotation: number
  /** For how long a key is published before it signs. */
  readonly publish: number
  /** Between two looks for what other nodes or commands have changed. */
  readonly poll: number
}

const number = (least: number, most: number, unit: string) =>
  z
    .string()
    .regex(/^\d{1,4}$/, `must be a number of ${unit} from ${least} to ${most}`)
    .transform(Number)
    .refine(
      (value) => value >= least && value <= most,
      `must be a number of ${unit} from ${least} to ${most}`,
    )

export const keysVariables = {
  HOLDFAST_KEY_ROTATION_DAYS: number(0, 3650, 'days').default(90),
  // Two hours are more than @holdfast/verify uses a key set for whose issuer is down (70 minutes),
  // what the other caches of the field hold it for, the time between two polls, and clocks that
  // differ, together.
  HOLDFAST_KEY_PUBLISH_HOURS: number(2, 720, 'hours').default(24),
  HOLDFAST_KEY_POLL_SECONDS: number(1, 300, 'seconds').default(15),
}

type Values = z.output<z.ZodObject<typeof keysVariables>>

const [second, hour, day] = [1000, 3_600_000, 86_400_000]

export function keysConfig(values: Values): KeysConfig {
  const { HOLDFAST_KEY_ROTATION_DAYS: days } = values
  return {
    rotation: days === 0 ? Number.POSITIVE_INFINITY : days * day,
    publish: values.HOLDFAST_KEY_PUBLISH_HOURS * hour,
    poll: values.HOLDFAST_KEY_POLL_SECONDS * second,
  }
}

export function keysContradictions(given: Readonly<Record<string, string | undefined>>): string[] {
  const problems: string[] = []
  const { HOLDFAST_SECRET: secret, HOLDFAST_SECRET_PREVIOUS: previous } = given
  if (previous !== undefined && previous === secret) {
    problems.push('HOLDFAST_SECRET_PREVIOUS is the same as HOLDFAST_SECRET: unset it.')
  }
  const days = Number(given.HOLDFAST_KEY_ROTATION_DAYS ?? 90)
  const hours = Number(given.HOLDFAST_KEY_PUBLISH_HOURS ?? 24)
  if (days > 0 && hours > days * 24) {
    problems.push(
      'HOLDFAST_KEY_PUBLISH_HOURS is longer than HOLDFAST_KEY_ROTATION_DAYS: a key would have to ' +
        'be published before the one before it.',
    )
  }
  return problems
}
