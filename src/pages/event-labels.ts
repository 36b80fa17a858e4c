import type { SecurityEventKind } from '../storage/security-event-table.ts'
import type { MessageKey } from './messages.ts'

const warnings: ReadonlySet<SecurityEventKind> = new Set([
  'session_unproven',
  'proof_refused',
  'passkey_counter_refused',
  'code_refused',
])

export interface EventLabel {
  readonly label: MessageKey
  readonly warning: boolean
}

export function eventLabel(kind: SecurityEventKind): EventLabel {
  return { label: `event.${kind}`, warning: warnings.has(kind) }
}
