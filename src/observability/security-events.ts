import type {
  SecurityEvent,
  SecurityEventKind,
  SecurityEventTable,
} from '../storage/security-event-table.ts'
import type { Log } from './log.ts'

export interface SecurityEvents {
  /** Tells the operator and the person concerned, in the log and in the table. */
  record(kind: SecurityEventKind, about: Omit<SecurityEvent, 'kind'>): Promise<void>
}

const alarming: ReadonlySet<SecurityEventKind> = new Set(['session_unproven', 'proof_refused'])

/** What happens to people's sessions, written down once for both who need to know. */
export function createSecurityEvents({
  table,
  log,
}: {
  table: Pick<SecurityEventTable, 'append'>
  log: Log
}): SecurityEvents {
  return {
    async record(kind, about) {
      const { userAgent: _, ...fields } = about
      log[alarming.has(kind) ? 'warn' : 'info']({ event: kind, ...fields }, 'session')
      await table.append({ kind, ...about })
    },
  }
}
