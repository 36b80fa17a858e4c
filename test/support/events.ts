import type { StrangersEvent } from '../../src/observability/event-counts.ts'
import { createEvents, type Events } from '../../src/observability/events.ts'
import { createLog } from '../../src/observability/log.ts'
import { createMetrics, type Metrics } from '../../src/observability/metrics.ts'
import type { AuditRow } from '../../src/storage/audit-table.ts'

export interface Recorded {
  readonly events: Events
  readonly metrics: Metrics
  /** What strangers caused. */
  readonly counted: readonly StrangersEvent[]
  readonly audited: readonly Omit<AuditRow, 'at'>[]
  /** The log, parsed. */
  readonly logged: readonly Record<string, unknown>[]
}

/** Events whose log, audit rows and counters a test can look at. */
export function recordingEvents(auditTokens?: 'count' | 'each'): Recorded {
  const audited: Omit<AuditRow, 'at'>[] = []
  const logged: Record<string, unknown>[] = []
  const metrics = createMetrics({ poolUse: () => ({ open: 3, idle: 2, waiting: 1, waitMs: 250 }) })
  const log = createLog('debug', { write: (line) => logged.push(JSON.parse(line)) })
  const counted: StrangersEvent[] = []
  const counts = {
    record: (event: StrangersEvent) => counted.push(event),
    recordTotal: (event: Omit<StrangersEvent, 'address'>) =>
      counted.push({ ...event, address: undefined }),
  }
  const audit = { record: (event: Omit<AuditRow, 'at'>) => audited.push(event) }
  return {
    events: createEvents({ log, metrics, audit, counts, auditTokens, now: () => 0 }),
    metrics,
    audited,
    counted,
    logged,
  }
}
