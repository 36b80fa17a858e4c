import type { CanonicalEmail } from '../accounts/email.ts'
import type { CanonicalUsername } from '../accounts/username.ts'
import { networkOf, networksOf } from '../net/network.ts'
import type { AccountRecord } from '../storage/account-store.ts'
import {
  type AttemptCounter,
  attemptKey,
  type SignInAttemptTable,
} from '../storage/sign-in-attempt-table.ts'

export interface LoginAttempt {
  /**
   * The email that the account is looked up by, in the same form, also where its username was typed;
   * the username where nobody has it; undefined for what was typed and can be nobody's. Whether
   * there is such an account makes no difference.
   */
  readonly email: CanonicalEmail | CanonicalUsername | undefined
  readonly address: string
}

export interface LoginRefusal {
  readonly limit: 'login' | 'login_address' | 'login_account'
  /** Seconds until another attempt is worth making. */
  readonly retryAfter: number
}

/** An attempt that is refused, or else the account that it names. */
export type LoginAdmission =
  | { readonly refusal: LoginRefusal }
  | { readonly refusal: undefined; readonly record: AccountRecord | undefined }

export interface LoginLimits {
  /** Counts an attempt, before its password is looked at: many at once are counted one by one. */
  admit(attempt: LoginAttempt): Promise<LoginAdmission>
  /** Refunds an attempt that has succeeded. */
  succeeded(attempt: LoginAttempt): Promise<void>
}

const minute = 60
const hour = 60 * minute
const day = 24 * hour

/** An IPv6 /48 may be one subscriber or a few hundred of them. */
const wideFactor = 10

/** Counters that a node remembers to be used up; of more, the oldest are counted again. */
const mostBlocked = 20_000

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
export interface LoginLimitsOptions {
  readonly attempts?: number
  readonly perNetwork?: number
  /** Of the counters: those of one name count together. */
  readonly name?: string
  /** Attempts on one account by networks that it does not know. */
  readonly perAccount?: { readonly points: number; readonly durationS: number }
  readonly now?: () => number
}

/**
 * For codes after the password. Three codes of a million count at a time: with thirty attempts a day
 * someone who knows the password finds one in thirty years.
 */
export const codeLimits = {
  name: 'code',
  attempts: 5,
  perAccount: { points: 30, durationS: day },
} as const satisfies LoginLimitsOptions

/**
 * For mails that someone asks for who cannot sign in. All that one person is sent in an hour hold
 * links that work for an hour, so that a flood of the form keeps nobody out.
 */
export const forgottenLimits = {
  name: 'forgotten',
  attempts: 3,
  perNetwork: 30,
  perAccount: { points: 3, durationS: hour },
} as const satisfies LoginLimitsOptions

/** For mails to an address that someone wants to have for an account. */
export const emailChangeLimits = { ...forgottenLimits, name: 'email-change' } as const

export function createLoginLimits(
  table: SignInAttemptTable,
  {
    attempts = 10,
    perNetwork = 100,
    name = 'login',
    perAccount = { points: 100, durationS: hour },
    now = () => performance.now(),
  }: LoginLimitsOptions = {},
): LoginLimits {
  /** When each ends, by `now`. */
  const blocked = new Map<string, number>()

  function refusalOf({ limit, key }: Count): LoginRefusal | undefined {
    const leftMs = (blocked.get(key) ?? 0) - now()
    if (leftMs > 0) return { limit, retryAfter: Math.max(1, Math.ceil(leftMs / 1000)) }
    blocked.delete(key)
    return undefined
  }

  function block(key: string, forMs: number) {
    blocked.set(key, now() + forMs)
    const [oldest] = blocked.size > mostBlocked ? blocked.keys() : []
    if (oldest !== undefined) blocked.delete(oldest)
  }

  /** What an attempt counts for, the widest limit first, and how its account and network are known. */
  function countsOf({ email, address }: LoginAttempt) {
    const { near, wide } = networksOf(address)
    const both = `${networkOf(address)} ${email}`
    const count = (limit: Count['limit'], kind: string, value: string, points: number): Count => ({
      limit,
      points,
      key: attemptKey(name + kind, value),
      durationS: hour,
      ofStrangers: true,
    })
    const ofNetwork = [
      ...(wide ? [count('login_address', '-wide', wide, perNetwork * wideFactor)] : []),
      count('login_address', '-network', near, perNetwork),
    ]
    if (!email) return { strangers: ofNetwork, pair: undefined, known: undefined }
    const ofAccount = count('login_account', '-account', email, perAccount.points)
    const ofPair = count('login', '', both, attempts)
    return {
      strangers: [...ofNetwork, { ...ofAccount, durationS: perAccount.durationS }],
      pair: { ...ofPair, durationS: 15 * minute, ofStrangers: false },
      known: attemptKey(`${name}-known`, both),
    }
  }

  async function take(attempt: LoginAttempt, counts: readonly Count[], known: string | undefined) {
    const { counted, record } = await table.count({ email: attempt.email, known }, counts)
    const after = new Map(counted.map((each) => [each.key, each]))
    const isFull = ({ key, points }: Count) => (after.get(key)?.points ?? 0) > points
    for (const each of counts.filter(isFull)) block(each.key, after.get(each.key)?.forMs ?? 0)
    const full = counts.find(isFull)
    const refusal = full && refusalOf(full)
    if (!refusal) return { refusal, record }
    const others = counts.filter((each) => after.has(each.key) && !isFull(each))
    if (others.length > 0) await table.giveBack(others.map(({ key }) => key))
    return { refusal }
  }

  return {
    async admit(attempt) {
      const { strangers, pair, known } = countsOf(attempt)
      const ofPair = pair ? [pair] : []
      const here = pair && refusalOf(pair)
      if (here) return { refusal: here }
      const [blockedHere] = strangers.flatMap((each) => refusalOf(each) ?? [])
      if (!blockedHere) return take(attempt, [...strangers, ...ofPair], known)
      if (!known || !(await table.isKnown(known))) return { refusal: blockedHere }
      return take(attempt, ofPair, known)
    },

    async succeeded(attempt) {
      const { strangers, pair, known } = countsOf(attempt)
      if (!pair || !known) return
      const keys = strangers.map(({ key }) => key)
      await table.succeed({ known, knownS: 30 * day, forgotten: pair.key, strangers: keys })
    },
  }
}

interface Count extends AttemptCounter {
  readonly limit: LoginRefusal['limit']
  readonly points: number
}
