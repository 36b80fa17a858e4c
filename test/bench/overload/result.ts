/** What a run has shown, and the floors that it is held to. */

/** Connections of each kind. */
export interface LoadSize {
  readonly tokens: number
  readonly 'sign-ins': number
}

export interface Times {
  readonly count: number
  readonly p50_ms: number | null
  readonly p99_ms: number | null
  readonly max_ms: number | null
}

export interface KindReport {
  readonly accepted: Times
  /** Answered 503. */
  readonly refused: Times
  /** By status or error. */
  readonly other: Readonly<Record<string, number>>
}

export interface LoadReport {
  readonly seconds: number
  readonly kinds: Readonly<Record<keyof LoadSize, KindReport>>
  /** Of those that were answered 503. */
  readonly without_retry_after: number
  readonly connecting: Times
  /** Of the process that sends the load: the share of time in which it was busy, and how late it was. */
  readonly own: { readonly busy: number; readonly delay_p99_ms: number }
}

export interface Result {
  readonly phases: Readonly<Record<'before' | 'overload' | 'after', LoadReport>>
  /** Health checks during the overload, each on a connection of its own. */
  readonly health: Times & { readonly failures: number }
  /** Connections that the kernel has dropped because too many waited to be accepted. */
  readonly dropped: number
}

const longestMs = 1000

/** Each floor, and whether it holds. */
export function judge({ phases, health, dropped }: Result): Record<string, boolean> {
  const { before, overload, after } = phases
  const [tokens, signIns] = [overload.kinds.tokens, overload.kinds['sign-ins']]
  const p99 = ({ p99_ms }: Times) => p99_ms ?? Number.POSITIVE_INFINITY
  const perSecond = ({ seconds, kinds }: LoadReport) => kinds.tokens.accepted.count / seconds
  const refusedShare = ({ accepted, refused }: KindReport) =>
    refused.count / Math.max(1, accepted.count + refused.count)
  const others = Object.values(phases).flatMap(({ kinds }) =>
    Object.values(kinds).flatMap(({ other }) => Object.keys(other)),
  )
  return {
    'tokens that are accepted: p99 under a second': p99(tokens.accepted) < longestMs,
    'sign-ins that are accepted: p99 under a second': p99(signIns.accepted) < longestMs,
    'at least half as many tokens a second as without overload':
      perSecond(overload) >= perSecond(before) / 2,
    'sign-ins are refused before tokens': refusedShare(signIns) > refusedShare(tokens),
    'each refusal says when to come back': overload.without_retry_after === 0,
    'health checks are always answered within a second':
      health.failures === 0 && (health.max_ms ?? longestMs) < longestMs,
    'no connection is dropped': dropped === 0,
    'nothing fails in another way': others.length === 0,
    'right after it requests are as fast as before':
      after.kinds.tokens.refused.count === 0 &&
      p99(after.kinds.tokens.accepted) < Math.max(100, 2 * p99(before.kinds.tokens.accepted)),
  }
}
