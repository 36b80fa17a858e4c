/**
 * Leases: a connection that stays open for hours ends with the token that has opened it: when the
 * token expires, when the token or its session is revoked, and, on request, when its client has not
 * shown its key again for some minutes.
 */
import type { AccessToken } from './access-token.ts'
import { checkNames, namesOf, optionalFunction, positive } from './lib/check.ts'
import type { Verified } from './verifier.ts'

/** Why a connection had to end. */
export type LeaseEnd = 'expired' | 'revoked' | 'proof_overdue' | 'revocation_unavailable'

/** Options of {@link createLeases}. Times in seconds. */
export type LeaseOptions = Readonly<{
  /** By when the client has to show its key again (`renew`). Default: as long as its token is good. */
  proofEvery?: number
  /** Asked about each token every `checkEvery` seconds; `true` ends its connections. */
  isRevoked?: (token: AccessToken) => boolean | Promise<boolean>
  /** Default 30. */
  checkEvery?: number
  /** Milliseconds since the epoch. Default `Date.now`. */
  now?: () => number
  /** Calls `sweep` every second until it is cancelled. Default: a timer that keeps no process alive. */
  everySecond?: (sweep: () => void) => () => void
}>

const leaseOptions = namesOf<LeaseOptions>({
  proofEvery: true,
  isRevoked: true,
  checkEvery: true,
  now: true,
  everySecond: true,
})

/** One connection. */
export type Lease = Readonly<{
  /**
   * Continues with a request that was verified just now: a new proof, or a newer token. False, and no
   * effect, for another client, person or key than the one that opened the connection.
   */
  renew(verified: Verified): boolean
  /** The connection is closed: nothing has to be ended any more. */
  release(): void
}>

/** Made by {@link createLeases}. */
export type Leases = Disposable &
  Readonly<{
    /** Holds a connection; `end` is called once, when it has to be closed. */
    hold(verified: Pick<Verified, 'token'>, end: (reason: LeaseEnd) => void): Lease
    /**
     * Ends the connections whose token answers to this, at once: for a feed of revocations, such as
     * a back-channel logout (`sid`, `sub`) or an event of the issuer (`jti`, `client_id`).
     */
    revoke(concerns: (token: AccessToken) => boolean): void
    /** How many connections are held. */
    readonly size: number
  }>

type Held = {
  token: AccessToken
  /** Seconds since the epoch. */
  proofDue: number
  checkDue: number
  /** How many times in a row nobody could say whether the token was revoked. */
  unknown: number
  checking: boolean
  readonly end: (reason: LeaseEnd) => void
}

/** An issuer that is restarted ends no connection; one that is gone ends all of them. */
const patience = 3

/**
 * Makes the keeper of long connections of one process.
 *
 * It looks once a second, so that an end comes up to a second late, and a revocation that is
 * polled `checkEvery` seconds late. It does NOT close anything itself: `end` does.
 *
 * @example
 * ```ts
 * const leases = createLeases({ isRevoked: (token) => revoked.has(token.claims.jti) })
 * const lease = leases.hold(request.auth, () => socket.close(1008))
 * socket.once('close', lease.release)
 * ```
 */
export function createLeases(options: LeaseOptions = {}): Leases {
  checkNames('options', options, leaseOptions)
  for (const name of ['isRevoked', 'now', 'everySecond'] as const) {
    optionalFunction(name, options[name])
  }
  const { isRevoked, everySecond = startTimer } = options
  const proofEvery = positive('proofEvery', options.proofEvery, Number.MAX_VALUE)
  const checkEvery = positive('checkEvery', options.checkEvery, 30)
  const milliseconds = options.now ?? Date.now
  const now = () => milliseconds() / 1000
  const held = new Set<Held>()

  function end(each: Held, reason: LeaseEnd): void {
    if (held.delete(each)) each.end(reason)
  }

  /** One slow answer holds up nothing else. */
  async function checkRevocation(each: Held, ask: NonNullable<typeof isRevoked>): Promise<void> {
    const { token } = each
    each.checking = true
    try {
      if (await ask(token)) end(each, 'revoked')
      each.unknown = 0
    } catch {
      each.unknown += 1
      if (each.unknown >= patience) end(each, 'revocation_unavailable')
    }
    each.checking = false
    each.checkDue = now() + checkEvery
  }

  function sweep(): void {
    const seconds = now()
    for (const each of held) {
      if (seconds >= (each.token.claims.exp ?? Number.POSITIVE_INFINITY)) end(each, 'expired')
      else if (seconds >= each.proofDue) end(each, 'proof_overdue')
      else if (isRevoked !== undefined && seconds >= each.checkDue && !each.checking) {
        void checkRevocation(each, isRevoked)
      }
    }
  }

  const stop = everySecond(sweep)
  return Object.freeze({
    get size() {
      return held.size
    },
    hold({ token }: Pick<Verified, 'token'>, onEnd: (reason: LeaseEnd) => void): Lease {
      const seconds = now()
      const each: Held = {
        token,
        proofDue: seconds + proofEvery,
        checkDue: seconds + checkEvery,
        unknown: 0,
        checking: false,
        end: onEnd,
      }
      held.add(each)
      return Object.freeze({
        renew(verified: Verified): boolean {
          if (!held.has(each) || !isSameHolder(each.token, verified.token)) return false
          each.token = verified.token
          each.proofDue = now() + proofEvery
          return true
        },
        release: () => void held.delete(each),
      })
    },
    revoke(concerns: (token: AccessToken) => boolean): void {
      for (const each of held) if (concerns(each.token)) end(each, 'revoked')
    },
    [Symbol.dispose]: stop,
  })
}

/** The same client for the same person with the same keys; nothing that is missing is equal. */
function isSameHolder(a: AccessToken, b: AccessToken): boolean {
  const same = (name: 'client_id' | 'sub') =>
    a.claims[name] !== undefined && a.claims[name] === b.claims[name]
  const keysOf = ({ confirmations }: AccessToken) =>
    confirmations.map((each) => JSON.stringify(each)).sort()
  return (
    a.issuer === b.issuer &&
    same('client_id') &&
    same('sub') &&
    keysOf(a).join() === keysOf(b).join()
  )
}

function startTimer(sweep: () => void): () => void {
  const timer = setInterval(sweep, 1000)
  timer.unref()
  return () => clearInterval(timer)
}
