import type { CanonicalEmail } from '../accounts/email.ts'
import { networkOf, networksOf } from '../net/network.ts'
import type { Limiter, MakeLimiter } from '../storage/limiter.ts'

export interface LoginAttempt {
  /**
   * The email that the account is looked up by, in the same form; undefined for what was typed and
   * can be nobody's. Whether there is such an account makes no difference.
   */
  readonly email: CanonicalEmail | undefined
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
  /** Refunds an attempt that has succeeded. */
  succeeded(attempt: LoginAttempt): Promise<void>
}

const minute = 60
const hour = 60 * minute
const day = 24 * hour

/** An IPv6 /48 may be one subscriber or a few hundred of them. */
const wideFactor = 10

/**
 * Three limits: one account from one network, one network for all accounts, and one account from
 * all networks.
 *
 * The last two are those that an attacker could turn against people, by failing on purpose in
 * their network or with their emails. So a person and a network who know each other, by a sign-in
 * within thirty days, have the first limit alone: neither strangers in the same network nor
 * attackers elsewhere can keep that person out. Every limit ends by itself, whatever is tried.
 *
 * Of a limit that a node knows to be used up no further row is written.
 */
export function createLoginLimits(
  make: MakeLimiter,
  { attempts = 10, perNetwork = 100 }: { attempts?: number; perNetwork?: number } = {},
): LoginLimits {
  const pair = make({ name: 'login', points: attempts, duration: 15 * minute })
  const near = make({ name: 'login-network', points: perNetwork, duration: hour })
  const wide = make({ name: 'login-wide', points: perNetwork * wideFactor, duration: hour })
  const account = make({ name: 'login-account', points: 100, duration: hour })
  const known = make({ name: 'login-known', points: 1, duration: 30 * day })

  const pairOf = ({ email, address }: LoginAttempt) => `${networkOf(address)} ${email}`

  /** What an attempt of strangers to each other counts for, the widest limit first. */
  function countsOf({ email, address }: LoginAttempt): Count[] {
    const networks = networksOf(address)
    return [
      ...(networks.wide ? [count('login_address', wide, networks.wide)] : []),
      count('login_address', near, networks.near),
      ...(email ? [count('login_account', account, email)] : []),
      ...(email ? [count('login', pair, pairOf({ email, address }))] : []),
    ]
  }

  return {
    async admit(attempt) {
      const both = pairOf(attempt)
      const here = attempt.email && pair.blocked(both)
      if (here) return { limit: 'login', retryAfter: here }
      if (!attempt.email || !(await known.has(both))) return takeAll(countsOf(attempt))
      return takeAll([count('login', pair, both)])
    },

    async succeeded(attempt) {
      const { email } = attempt
      if (!email) return
      const both = pairOf(attempt)
      const wasKnown = await known.has(both)
      const counted = wasKnown ? [] : countsOf(attempt).filter(({ limiter }) => limiter !== pair)
      await Promise.all([pair.forget(both), ...counted.map(giveBack)])
      await known.forget(both)
      await known.take(both)
    },
  }
}

interface Count {
  readonly limit: LoginRefusal['limit']
  readonly limiter: Limiter
  readonly key: string
}

function count(limit: LoginRefusal['limit'], limiter: Limiter, key: string): Count {
  return { limit, limiter, key }
}

function giveBack({ limiter, key }: Count): Promise<void> {
  return limiter.giveBack(key)
}

/** Takes a point of each, or of none. */
async function takeAll(counts: readonly Count[]): Promise<LoginRefusal | undefined> {
  for (const { limit, limiter, key } of counts) {
    const retryAfter = limiter.blocked(key)
    if (retryAfter !== undefined) return { limit, retryAfter }
  }
  const taken: Count[] = []
  for (const each of counts) {
    const retryAfter = await each.limiter.take(each.key)
    if (retryAfter !== undefined) {
      await Promise.all(taken.map(giveBack))
      return { limit: each.limit, retryAfter }
    }
    taken.push(each)
  }
  return undefined
}
