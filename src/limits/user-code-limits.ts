import { networkOf } from '../net/network.ts'
import type { MakeLimiter } from '../storage/limiter.ts'

/** Where a user code was typed. */
export interface TypedUserCode {
  readonly address: string
  /** The browser's session; anyone who leaves it behind is still in the same network. */
  readonly session: string
}

export interface UserCodeRefusal {
  readonly limit: 'user_codes' | 'user_codes_session'
  /** Seconds until another code is worth typing. */
  readonly retryAfter: number
}

export interface UserCodeLimits {
  /** Counts a code, before it is looked up: many at once are counted one by one. */
  admit(typed: TypedUserCode): Promise<UserCodeRefusal | undefined>
  /** Refunds the attempt when the code exists. */
  found(typed: TypedUserCode): Promise<void>
}

const duration = 15 * 60

/**
 * Two limits on guessing user codes (RFC 8628 section 5.1): one browser, and one network for all
 * browsers. Codes that there are do not count, so that many people may share a network.
 */
export function createUserCodeLimits(
  make: MakeLimiter,
  { wrong = 20 }: { wrong?: number } = {},
): UserCodeLimits {
  const browser = make({ name: 'user-code-session', points: Math.ceil(wrong / 2), duration })
  const network = make({ name: 'user-code', points: wrong, duration })
  return {
    async admit({ address, session }) {
      const here = await browser.take(session)
      if (here !== undefined) return { limit: 'user_codes_session', retryAfter: here }
      const everyone = await network.take(networkOf(address))
      if (everyone !== undefined) return { limit: 'user_codes', retryAfter: everyone }
      return undefined
    },

    async found({ address, session }) {
      await Promise.all([browser.giveBack(session), network.giveBack(networkOf(address))])
    },
  }
}
