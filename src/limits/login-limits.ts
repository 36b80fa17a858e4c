import type { MakeLimiter } from './limiter.ts'
import { networkOf } from './network.ts'

export interface LoginAttempt {
  /** The email as it was typed. Whether there is such an account makes no difference. */
  readonly email: string
  readonly address: string
}

export interface LoginRefusal {
  readonly limit: 'login' | 'login_address' | 'login_account'
  /** Seconds until another attempt is worth making. */
  readonly retryAfter: number
}

export interface LoginLimits {
  /** Counts an attempt, before its password is looked at: many at once are counted one by one. */
  admit(attempt: LoginAttempt): Promise<LoginRefusal | undefined>
  /** Takes back what a successful attempt was counted. */
  succeeded(attempt: LoginAttempt): Promise<void>
}

const minute = 60
const hour = 60 * minute
const day = 24 * hour

/**
 * Three limits: one account from one network, one network for all accounts, and one account from
 * all networks.
 *
 * The last one is the one that an attacker could turn against a person, by failing on purpose. So
 * it does not count where that account has signed in within thirty days, and it ends with its hour
 * whatever is tried in it: nobody can be locked out of where they usually are, and nobody for good.
 */
export function createLoginLimits(
  make: MakeLimiter,
  { attempts = 10 }: { attempts?: number } = {},
): LoginLimits {
  const pair = make({ name: 'login', points: attempts, duration: 15 * minute })
  const network = make({ name: 'login-network', points: 100, duration: hour })
  const account = make({ name: 'login-account', points: 100, duration: hour })
  const known = make({ name: 'login-known', points: 1, duration: 30 * day })

  const keys = ({ email, address }: LoginAttempt) => {
    const who = email.trim().toLowerCase()
    const where = networkOf(address)
    return { who, where, both: `${where} ${who}` }
  }

  return {
    async admit(attempt) {
      const { who, where, both } = keys(attempt)
      const here = await pair.take(both)
      if (here !== undefined) return { limit: 'login', retryAfter: here }
      const everyone = await network.take(where)
      if (everyone !== undefined) return { limit: 'login_address', retryAfter: everyone }
      if (await known.has(both)) return undefined
      const everywhere = await account.take(who)
      if (everywhere !== undefined) return { limit: 'login_account', retryAfter: everywhere }
      return undefined
    },

    async succeeded(attempt) {
      const { who, where, both } = keys(attempt)
      const wasKnown = await known.has(both)
      await Promise.all([
        pair.forget(both),
        network.giveBack(where),
        wasKnown ? undefined : account.giveBack(who),
      ])
      await known.forget(both)
      await known.take(both)
    },
  }
}
