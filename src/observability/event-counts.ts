import { networkOf } from '../net/network.ts'
import type { CountedEvent } from '../storage/counted-event-table.ts'

/** Something that a stranger caused. */
export interface StrangersEvent {
  readonly event: string
  /** Of a closed set of words for each event. */
  readonly reason: string
  readonly address: string | undefined
  readonly client?: string | undefined
  readonly requestId?: string | undefined
}

export interface EventCounts extends AsyncDisposable {
  /** Counts an event, to be written soon. Never waits and never fails. */
  record(event: StrangersEvent): void
  /** Counts an event of any network. Its reason is of a closed set, so that it has room always. */
  recordTotal(event: Omit<StrangersEvent, 'address'>): void
  /** Writes what was counted. */
  flush(): Promise<void>
}

const minuteMs = 60_000

/**
 * Counts what strangers cause, by minute, kind and network, beside the requests: ten thousand
 * refused requests of one network become one row. In a minute there are `rowsPerMinute` rows of all
 * `workers` of a node at most; what comes from further networks is counted for the network `*`.
 */
export function createEventCounts({
  add,
  onError,
  intervalMs = 5_000,
  workers = 1,
  rowsPerMinute = 200,
  now = Date.now,
}: {
  add: (counts: readonly CountedEvent[]) => Promise<void>
  onError: (error: unknown) => void
  intervalMs?: number
  workers?: number | undefined
  rowsPerMinute?: number
  now?: () => number
}): EventCounts {
  const mostRows = Math.ceil(rowsPerMinute / workers)
  /** Not written yet. */
  let waiting = new Map<string, CountedEvent>()
  /** The rows of the present minute, written or not. */
  let rows = new Set<string>()
  let minute = 0
  let writing: Promise<void> = Promise.resolve()

  function turnMinute() {
    const time = now()
    const present = time - (time % minuteMs)
    if (present !== minute) rows = new Set()
    minute = present
  }

  function count(
    { event, reason, client, requestId }: Omit<StrangersEvent, 'address'>,
    network: string,
  ) {
    const key = `${minute} ${event} ${reason} ${network}`
    const before = waiting.get(key)?.count ?? 0
    waiting.set(key, {
      minute: new Date(minute),
      event,
      reason,
      network,
      count: before + 1,
      client: client ?? null,
      requestId: requestId ?? null,
    })
  }

  async function write() {
    if (waiting.size === 0) return
    const counts = [...waiting.values()]
    waiting = new Map()
    // Counts that cannot be written are lost: metrics have them, and memory stays bounded.
    await add(counts)
  }

  function flush(): Promise<void> {
    writing = writing.catch(() => {}).then(write)
    return writing
  }

  const timer = setInterval(() => flush().catch(onError), intervalMs)
  timer.unref()
  return {
    record(event) {
      turnMinute()
      const network = networkOf(event.address ?? '')
      const row = `${event.event} ${event.reason} ${network}`
      const hasRoom = rows.size < mostRows || rows.has(row)
      if (hasRoom) rows.add(row)
      count(hasRoom ? event : { ...event, reason: '*' }, hasRoom ? network : '*')
    },
    recordTotal(event) {
      turnMinute()
      count(event, '*')
    },
    flush,
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await flush().catch(onError)
    },
  }
}
