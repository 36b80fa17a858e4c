/**
 * Back-channel logout: takes what is due of the table `logout_deliveries` and sends it. Any number
 * of nodes do so side by side; each row is taken by one of them.
 */
import { setTimeout } from 'node:timers/promises'
import type { LogoutDelivery, LogoutDeliveryTable } from '../storage/logout-delivery-table.ts'

/** Sent side by side. */
export const batchSize = 16

/** With the pauses between them, attempts take 40 minutes. */
export const mostAttempts = 5

/** After the database has failed, the pause is this many times as long. */
const afterFailure = 10

/** What became of one attempt. `refused`: trying again would not help. `gone`: nobody to send it to. */
export type DeliveryOutcome = 'delivered' | 'refused' | 'gone' | 'failed'

export interface DeliveriesOptions {
  readonly table: Pick<LogoutDeliveryTable, 'take' | 'remove'>
  /** Sends one. It rejects for a defect only. */
  readonly send: (delivery: LogoutDelivery) => Promise<DeliveryOutcome>
  readonly onDone: (
    delivery: LogoutDelivery,
    outcome: 'delivered' | 'retried' | 'given_up' | 'gone',
  ) => void
  readonly onError: (error: unknown) => void
  /** Milliseconds between two looks at an empty queue. */
  readonly intervalMs?: number
}

/** Delivers until it is disposed, which waits for what is on its way. */
export function startLogoutDeliveries(options: DeliveriesOptions): AsyncDisposable {
  const { onError, intervalMs = 1000 } = options
  const stopped = new AbortController()
  const { signal } = stopped

  async function work() {
    while (!signal.aborted) {
      const taken = await deliverBatch(options).catch((error: unknown) => {
        onError(error)
        return 'failed' as const
      })
      const pauseMs = taken === 'failed' ? intervalMs * afterFailure : intervalMs
      if (taken !== batchSize) {
        await setTimeout(pauseMs, undefined, { signal, ref: false }).catch(() => {})
      }
    }
  }

  const working = work()
  return {
    async [Symbol.asyncDispose]() {
      stopped.abort()
      await working
    },
  }
}

/** @returns how many were taken. */
export async function deliverBatch({
  table,
  send,
  onDone,
  onError,
}: Omit<DeliveriesOptions, 'intervalMs'>): Promise<number> {
  const taken = await table.take(batchSize)
  const done = await Promise.all(
    taken.map(async (delivery) => {
      const outcome = await send(delivery).catch((error: unknown) => {
        onError(error)
        return 'failed' as const
      })
      const isRetried = outcome === 'failed' && delivery.attempts < mostAttempts
      const isGivenUp = outcome === 'refused' || outcome === 'failed'
      onDone(delivery, isRetried ? 'retried' : isGivenUp ? 'given_up' : outcome)
      return isRetried ? [] : [delivery.id]
    }),
  )
  const ids = done.flat()
  if (ids.length > 0) await table.remove(ids)
  return taken.length
}
