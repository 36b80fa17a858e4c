import { setTimeout } from 'node:timers/promises'
import type { KeyRing } from './key-ring.ts'

/** Milliseconds between two readings, however many requests come. */
const pauseMs = 1000

/**
 * Has a node read the keys before it shows them: what a command or another node has published a moment
 * ago is in every answer, and an API that asks for a key that it does not know gets it from any node.
 * One statement a second at most. A reading that fails changes nothing.
 */
export function createCatchUp(
  { refresh }: Pick<KeyRing, 'refresh'>,
  {
    now = () => performance.now(),
    patienceMs = 500,
  }: {
    readonly now?: () => number
    /** For which a request waits: while the database is away, keys are shown as they are known. */
    readonly patienceMs?: number
  } = {},
): () => Promise<void> {
  let reading: Promise<void> | undefined
  let began = Number.NEGATIVE_INFINITY
  return async () => {
    if (!reading && now() - began >= pauseMs) {
      began = now()
      reading = refresh()
        .catch(() => {})
        .finally(() => {
          reading = undefined
        })
    }
    if (!reading) return
    const waiting = new AbortController()
    const patience = setTimeout(patienceMs, undefined, { signal: waiting.signal })
    await Promise.race([reading, patience.catch(() => {})])
    waiting.abort()
  }
}
