import { CannotStoreError } from '../storage/node-probe.ts'

/** Why a node must get no requests, in words that anyone may read. */
export class NotReadyError extends Error {
  override name = 'NotReadyError'
}

/** Seconds between the clocks of a node and of the database. */
const warnsBeyondS = 5
const refusesBeyondS = 30

/** Milliseconds between two writes, however many ask. */
const restMs = 5_000

/** Milliseconds between two looks that nobody asked for. */
const watchMs = 10_000

export type ClockState = 'right' | 'off' | 'wrong'

export interface ReadinessOptions {
  readonly ping: () => Promise<void>
  /** Writes to the database. Milliseconds since the epoch by its clock. */
  readonly write: () => Promise<number>
  /** Told of each comparison: how many seconds this node is ahead. */
  readonly onCompared: (aheadS: number) => void
  /** Told when the state has changed. */
  readonly onClock: (state: ClockState, aheadS: number) => void
  /** Milliseconds since the epoch. */
  readonly now?: () => number
  /** Milliseconds that never go back. */
  readonly elapsed?: () => number
}

export interface Readiness extends AsyncDisposable {
  /** @throws {@link NotReadyError} where the reason can be shown; anything else where not. */
  check(): Promise<void>
  /** Looks now and then, for every caller. */
  watch(): void
}

/** Whether requests should be sent to a node: its database takes writes, and has the same time. */
export function createReadiness({
  ping,
  write,
  onCompared,
  onClock,
  now = Date.now,
  elapsed = () => performance.now(),
}: ReadinessOptions): Readiness {
  let wroteAt = Number.NEGATIVE_INFINITY
  let aheadS = 0
  let state: ClockState = 'right'
  let timer: NodeJS.Timeout | undefined
  let checking: Promise<void> | undefined

  async function compare() {
    const [asked, began] = [now(), elapsed()]
    const theirs = await write()
    const tookMs = elapsed() - began
    wroteAt = elapsed()
    aheadS = (asked + tookMs / 2 - theirs) / 1000
    onCompared(aheadS)
    // The answer was late by no more than it took: a slow database makes no clock wrong.
    const before = state
    state = stateOf(Math.abs(aheadS) - tookMs / 2000)
    if (state !== before) onClock(state, aheadS)
  }

  async function look() {
    await explain(async () => {
      await ping()
      if (elapsed() - wroteAt >= restMs) await compare()
    })
    if (state === 'wrong') throw new NotReadyError(sentenceOf(aheadS))
  }

  /** Shared by all who ask, for as long as a database that hangs keeps them waiting. */
  function check() {
    checking ??= look().finally(() => {
      checking = undefined
    })
    return checking
  }

  return {
    check,
    watch() {
      timer = setInterval(() => void check().catch(() => {}), watchMs).unref()
    },
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await checking?.catch(() => {})
    },
  }
}

/** What the database says of itself is for people, and nothing else that it says. */
async function explain(work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (cause) {
    throw cause instanceof CannotStoreError ? new NotReadyError(cause.message, { cause }) : cause
  }
}

function stateOf(differenceS: number): ClockState {
  if (differenceS > refusesBeyondS) return 'wrong'
  return differenceS > warnsBeyondS ? 'off' : 'right'
}

function sentenceOf(aheadS: number): string {
  const seconds = Math.round(Math.abs(aheadS))
  const direction = aheadS > 0 ? 'ahead of' : 'behind'
  return `the clock of this node is ${seconds} seconds ${direction} that of the database`
}
