import type { OperationsConfig } from '../config/operations-config.ts'
import type { Storage } from '../storage/open-storage.ts'
import { createAuditTrail } from './audit-trail.ts'
import { createEventCounts } from './event-counts.ts'
import { createEvents, type Events } from './events.ts'
import type { Log } from './log.ts'
import { createMetrics, type Metrics } from './metrics.ts'

export interface Observability extends AsyncDisposable {
  readonly log: Log
  readonly events: Events
  readonly metrics: Metrics
  /** Writes the audit events that were recorded; disposing does so as well. */
  flush(): Promise<void>
}

/**
 * Log, metrics and audit trail on an open storage.
 *
 * @param workers processes of this node, which share what strangers can have it write.
 */
export function createObservability({
  log,
  storage,
  auditTokens,
  workers,
}: {
  log: Log
  auditTokens?: OperationsConfig['auditTokens'] | undefined
  storage: Pick<Storage, 'audit' | 'countedEvents' | 'poolUse'> & Partial<Pick<Storage, 'standby'>>
  workers?: number | undefined
}): Observability {
  const metrics = createMetrics(storage)
  const audit = createAuditTrail({
    append: (rows) => storage.audit.append(rows),
    onDropped: (count) => metrics.auditDropped.inc(count),
    onError: (error) => log.error({ event: 'audit.failed', err: error }, 'audit not written'),
  })
  const counts = createEventCounts({
    workers,
    add: (rows) => storage.countedEvents.add(rows),
    onError: (error) => log.error({ event: 'counts.failed', err: error }, 'counts not written'),
  })
  return {
    log,
    events: createEvents({ log, metrics, audit, counts, auditTokens, workers }),
    metrics,
    async flush() {
      await Promise.all([audit.flush(), counts.flush()])
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([audit[Symbol.asyncDispose](), counts[Symbol.asyncDispose]()])
    },
  }
}
