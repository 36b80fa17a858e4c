import type { AuditRow } from '../storage/audit-table.ts'

export interface AuditTrail extends AsyncDisposable {
  /** Takes an event to be written soon. Never waits and never fails. */
  record(event: Omit<AuditRow, 'at'>): void
  /** Writes what was taken. */
  flush(): Promise<void>
}

/** Events written by one statement. */
const batch = 500

/**
 * Writes audit events in batches, beside the requests that cause them: a token request pays no
 * round trip for its event, and a flood of refusals becomes a few statements. What a crash can lose
 * is `interval` milliseconds of events, which the log has. While the database is away up to
 * `capacity` events are kept; what is beyond is dropped, and told.
 */
export function createAuditTrail({
  append,
  onDropped,
  onError,
  interval = 500,
  capacity = 10_000,
  now = Date.now,
}: {
  append: (rows: readonly AuditRow[]) => Promise<void>
  onDropped: (count: number) => void
  onError: (error: unknown) => void
  interval?: number
  capacity?: number
  now?: () => number
}): AuditTrail {
  const waiting: AuditRow[] = []
  let writing: Promise<void> | undefined

  async function write() {
    while (waiting.length > 0) {
      const rows = waiting.slice(0, batch)
      await append(rows)
      waiting.splice(0, rows.length)
    }
  }

  async function flush() {
    // What was taken while a batch was written may have missed it.
    await writing?.catch(() => {})
    writing ??= write().finally(() => {
      writing = undefined
    })
    await writing
  }

  const timer = setInterval(() => flush().catch(onError), interval)
  timer.unref()
  return {
    record(event) {
      if (waiting.length >= capacity) onDropped(1)
      else waiting.push({ ...event, at: new Date(now()) })
    },
    flush,
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await flush().catch(onError)
    },
  }
}
