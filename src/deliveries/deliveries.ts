/**
 * What clients are sent: takes what is due of a queue in the database and sends it. Any number of
 * nodes do so side by side; each row is taken by one of them.
 */
import { setTimeout } from 'node:timers/promises'
import {
  type GuardedFetch,
  GuardedFetchError,
  type GuardedFetchLimits,
  type GuardedRequest,
} from '../net/guarded-fetch.ts'
import type { DeliveryQueue, QueuedDelivery } from '../storage/delivery-queue.ts'

/** A client that many people leave at once gets more requests than one whose keys are fetched. */
export const deliveryLimits: Partial<GuardedFetchLimits> = {
  limitBytes: 4096,
  patienceMs: 5000,
  concurrent: 32,
  concurrentPerRequester: 8,
  perMinute: 2000,
  perMinutePerRequester: 500,
}

/** Sent side by side. */
export const batchSize = 16

/** Fewer where a row ends before. */
export const mostAttempts = 5

/** After the database has failed, the pause is this many times as long. */
const afterFailure = 10

/** What became of one attempt. `refused`: trying again would not help. `gone`: nobody to send it to. */
export type DeliveryOutcome = 'delivered' | 'refused' | 'gone' | 'failed'

/** What became of a row: it is kept where it is `retried`, and removed otherwise. */
export type DeliveryResult = 'delivered' | 'retried' | 'given_up' | 'gone'

export interface DeliveriesOptions<Delivery extends QueuedDelivery> {
  readonly queue: Pick<DeliveryQueue<Delivery>, 'take' | 'remove'>
  /** Sends one. It rejects for a defect only. */
  readonly send: (delivery: Delivery) => Promise<DeliveryOutcome>
  readonly onDone: (delivery: Delivery, result: DeliveryResult) => void
  readonly onError: (error: unknown) => void
  /** Milliseconds between two looks at an empty queue. */
  readonly intervalMs?: number
}

/** Delivers until it is disposed, which waits for what is on its way. */
export function startDeliveries<Delivery extends QueuedDelivery>(
  options: DeliveriesOptions<Delivery>,
): AsyncDisposable {
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
export async function deliverBatch<Delivery extends QueuedDelivery>({
  queue,
  send,
  onDone,
  onError,
}: Omit<DeliveriesOptions<Delivery>, 'intervalMs'>): Promise<number> {
  const taken = await queue.take(batchSize)
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
  if (ids.length > 0) await queue.remove(ids)
  return taken.length
}

/**
 * Posts something to an address that a client has registered. 200 and 204 are answers of clients that
 * have got it; other 4xx say that this will never do. A redirect is not followed.
 */
export async function sendTo(
  url: string,
  { guardedFetch, ...request }: GuardedRequest & { readonly guardedFetch: GuardedFetch },
): Promise<DeliveryOutcome> {
  try {
    const { status } = await guardedFetch(url, request)
    if (status === 200 || status === 204) return 'delivered'
    return status >= 500 || status === 429 || status === 408 ? 'failed' : 'refused'
  } catch (error) {
    if (!(error instanceof GuardedFetchError)) throw error
    return permanent.has(error.code) ? 'refused' : 'failed'
  }
}

const permanent: ReadonlySet<string> = new Set(['not_https', 'redirected'])
