/**
 * When a node has more to do than it can: whom it still serves. A request that would wait for
 * longer than its kind may is refused at once, so that those that are accepted stay fast, and so
 * that there is no backlog to work off when the load ends.
 */

/** Clients with tokens come before people who sign in: they cannot wait, and cost less. */
export type WorkKind = 'tokens' | 'sign-ins'

/** Requests of one kind. */
export interface Work {
  /** In work now; those that wait for bytes of their client are not among them. */
  readonly active: number
  /** Begun since the last measurement: some end in the turn of the event loop that they begin in. */
  readonly begun: number
  /** As many are finished in a second while the node is busy with them. */
  readonly perSecond: number
}

/** What all requests of a node wait for, and what they make way for. */
export interface Delays {
  /** By how much the event loop was late. */
  readonly loopDelayMs: number
  /** For how long a statement waits for a connection of the pool. */
  readonly poolWaitMs: number
  /** Whether a request for tokens was refused a moment ago. */
  readonly tokensAreRefused: boolean
}

/**
 * So many are in work before anything is refused, and twice as many are begun between two
 * measurements: a node always makes progress.
 */
const alwaysAccepted: Record<WorkKind, number> = { tokens: 16, 'sign-ins': 8 }

/** The same of sign-ins while tokens are refused: each takes the time of several tokens. */
const besideRefusedTokens = 1

/** Turns of the event loop that a request takes: it is read, waits for the database, is answered. */
const turnsOfRequest = 3

/** Milliseconds for which sign-ins make way after a request for tokens was refused. */
export const makesWayMs = 1000

/** What a node is believed to manage before it was busy for the first time. */
const assumedPerSecond: Record<WorkKind, number> = { tokens: 200, 'sign-ins': 100 }

/** Milliseconds between two measurements. */
export const samplePeriodMs = 100

/**
 * Whether a request may be begun.
 *
 * @param longestWaitMs for how long one for tokens may wait; one of a person half as long.
 */
export function accepts(
  kind: WorkKind,
  { active, begun, perSecond }: Work,
  { loopDelayMs, poolWaitMs, tokensAreRefused }: Delays,
  longestWaitMs: number,
): boolean {
  const makesWay = kind === 'sign-ins' && tokensAreRefused
  const always = makesWay ? besideRefusedTokens : alwaysAccepted[kind]
  if (active < always && begun < 2 * always) return true
  if (makesWay) return false
  const waitMs = Math.max((active / perSecond) * 1000, loopDelayMs * turnsOfRequest, poolWaitMs)
  return waitMs < (kind === 'tokens' ? longestWaitMs : longestWaitMs / 2)
}

/** What is believed of a kind before it was measured. */
export function workAtRest(kind: WorkKind): Work {
  return { active: 0, begun: 0, perSecond: assumedPerSecond[kind] }
}

/** Milliseconds over which is averaged what a node manages: requests finish in bursts. */
const memoryMs = 1000

/**
 * What a node manages, after another measurement. Only a busy node shows what it can do: one that
 * is idle finishes little because little is asked of it.
 */
export function capacity(
  kind: WorkKind,
  { active, perSecond }: Pick<Work, 'active' | 'perSecond'>,
  { finished, elapsedMs }: { finished: number; elapsedMs: number },
): number {
  if (active < alwaysAccepted[kind]) return perSecond
  const weight = Math.min(1, elapsedMs / memoryMs)
  return Math.max(1, perSecond + ((finished / elapsedMs) * 1000 - perSecond) * weight)
}

/** How late the event loop is, after another measurement: a long delay fades within a second. */
export function loopDelay(beforeMs: number, elapsedMs: number): number {
  return Math.max(0, elapsedMs - samplePeriodMs, beforeMs / 2)
}
