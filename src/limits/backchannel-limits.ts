import type { MakeLimiter } from '../storage/limiter.ts'

/** Who asks whom (CIBA). */
export interface BackchannelAttempt {
  readonly clientId: string
  /** The account, or what stands for one that does not exist: both are counted alike. */
  readonly person: string
}

export interface BackchannelLimits {
  /** Counts a request. Seconds until another one is admitted, where there were too many. */
  admit(attempt: BackchannelAttempt): Promise<number | undefined>
}

/** Requests of one client for one person within the longest life of a request: one in ten seconds. */
const perPerson = 30

/** Seconds. */
export const longestBackchannelS = 300

/**
 * Two limits on what a client may ask people (CIBA). Both are of the client: one that asks all the
 * time keeps out neither other clients nor a person. Whether an account exists makes no difference.
 */
export function createBackchannelLimits(
  make: MakeLimiter,
  { perClient = 300 }: { perClient?: number } = {},
): BackchannelLimits {
  const client = make({ name: 'backchannel-client', points: perClient, duration: 60 })
  const person = make({
    name: 'backchannel-person',
    points: perPerson,
    duration: longestBackchannelS,
  })
  return {
    async admit({ clientId, person: who }) {
      return (await client.take(clientId)) ?? (await person.take(`${clientId} ${who}`))
    },
  }
}
