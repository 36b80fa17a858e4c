import type { KeyRing } from '../keys/key-ring.ts'
import type { Observability } from './observability.ts'

/** Tells how old the signing keys are, and which keys this node should know and does not. */
export function observeKeys(
  ring: Pick<KeyRing, 'scheduled' | 'unreadable' | 'now'>,
  { metrics, events }: Pick<Observability, 'metrics' | 'events'>,
): void {
  for (const { key, state } of ring.scheduled()) {
    if (state !== 'signing') continue
    metrics.keyAge.set({ purpose: key.purpose }, (ring.now() - key.signsFrom) / 1000)
  }
  const unreadable = ring.unreadable()
  metrics.keysUnreadable.set(unreadable.length)
  if (unreadable.length > 0) events.keysUnreadable(unreadable)
}
