import type { Observability } from '../observability/observability.ts'
import type { KeyRing } from './key-ring.ts'

/**
 * Tells how old the signing keys are, when another one signs on this node, and which keys it should
 * know and does not.
 */
export function createKeyObserver(
  ring: Pick<KeyRing, 'scheduled' | 'unreadable' | 'now'>,
  { metrics, events }: Pick<Observability, 'metrics' | 'events'>,
): () => void {
  const signing = new Map<string, string>()
  let reported = ''
  return () => {
    for (const { key, state } of ring.scheduled()) {
      if (state !== 'signing') continue
      const { kid, purpose, signsFrom } = key
      metrics.keyAge.set({ purpose }, Math.max(0, ring.now() - signsFrom) / 1000)
      if ((signing.get(purpose) ?? kid) !== kid) events.keySigns({ kid, purpose })
      signing.set(purpose, kid)
    }
    const unreadable = ring.unreadable()
    metrics.keysUnreadable.set(unreadable.length)
    // Once, and not each time that the rows are read.
    if (unreadable.length > 0 && reported !== unreadable.join()) events.keysUnreadable(unreadable)
    reported = unreadable.join()
  }
}
