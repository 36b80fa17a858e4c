import type { MakeLimiter } from '../storage/limiter.ts'
import type {
  SecurityEvent,
  SecurityEventKind,
  SecurityEventTable,
} from '../storage/security-event-table.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'

type About = Omit<SecurityEvent, 'kind'> & {
  /** Clients that it concerns, for the log. */
  readonly clients?: readonly string[]
}

export interface SecurityEvents {
  /** Tells the operator and the person concerned: in metrics, in the log and in the table. */
  record(kind: SecurityEventKind, about: About): Promise<void>
  /** Tells the operator of what another statement has written to the table. */
  report(kind: SecurityEventKind, about: About): void
}

/** What anyone can bring about who knows the name of a session or has a copy of its cookie. */
const alarming: ReadonlySet<SecurityEventKind> = new Set([
  'session_unproven',
  'proof_refused',
  'passkey_counter_refused',
  'code_refused',
])

/** Of those, how many of a kind are recorded for one session, in a time in seconds; all are counted. */
const alarms = { points: 10, duration: 60 * 60 }

/** What happens to people's sessions, written down once for both who need to know. */
export function createSecurityEvents({
  table,
  log,
  metrics,
  makeLimiter,
}: {
  table: Pick<SecurityEventTable, 'append'>
  log: Log
  metrics: Pick<Metrics, 'sessionEvents'>
  makeLimiter: MakeLimiter
}): SecurityEvents {
  const alarm = makeLimiter({ name: 'session-alarm', ...alarms })
  const count = (kind: SecurityEventKind) => metrics.sessionEvents.inc({ event: kind })
  function write(kind: SecurityEventKind, { userAgent: _, ...fields }: About) {
    log[alarming.has(kind) ? 'warn' : 'info']({ event: kind, ...fields }, 'session')
  }
  return {
    async record(kind, about) {
      count(kind)
      const isRepeated = async () =>
        (await alarm.take(`${kind} ${about.sessionUid ?? about.accountId}`)) !== undefined
      if (alarming.has(kind) && (await isRepeated())) return
      write(kind, about)
      await table.append({ kind, ...about })
    },
    report(kind, about) {
      count(kind)
      write(kind, about)
    },
  }
}
