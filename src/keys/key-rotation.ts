import { setTimeout } from 'node:timers/promises'
import type { KeyRing } from './key-ring.ts'

export interface KeyRotationOptions {
  readonly ring: Pick<KeyRing, 'refresh' | 'upkeep'>
  /** Milliseconds between two looks at the rows, give or take a fifth. */
  readonly interval: number
  readonly onRefreshed: () => void
  readonly onError: (error: unknown) => void
  /** From 0 to 1. */
  readonly random?: () => number
}

/**
 * Keeps the keys of a node up to date: reads them every now and then, and does what is due. While
 * the database is away, a node continues with the keys that it has.
 */
export function startKeyRotation({
  ring,
  interval,
  onRefreshed,
  onError,
  random = Math.random,
}: KeyRotationOptions): AsyncDisposable {
  const stopped = new AbortController()
  const { signal } = stopped

  async function run(): Promise<void> {
    while (!signal.aborted) {
      try {
        await ring.refresh()
        await ring.upkeep()
        onRefreshed()
      } catch (error) {
        onError(error)
      }
      // Nodes that were started together do not come together.
      const pause = interval * (0.8 + 0.4 * random())
      await setTimeout(pause, undefined, { signal, ref: false }).catch(() => {})
    }
  }

  const running = run()
  return {
    async [Symbol.asyncDispose]() {
      stopped.abort()
      await running
    },
  }
}
