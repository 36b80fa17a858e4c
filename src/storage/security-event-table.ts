import type { Database } from './database.ts'
import { expiringRows } from './expiring-rows.ts'

export const securityEventKinds = [
  'signed_in',
  'session_bound',
  'session_bound_late',
  'session_unproven',
  'proof_refused',
  'session_ended',
  'other_sessions_ended',
  'all_sessions_ended',
  'access_ended',
  'password_changed',
  'own_password_changed',
  'account_reset',
  'account_disabled',
  'passkey_added',
  'passkey_renamed',
  'passkey_removed',
  'passkey_counter_refused',
  'code_app_set_up',
  'code_app_removed',
  'recovery_codes_replaced',
  'recovery_code_used',
  'code_refused',
  'email_change_requested',
  'email_changed',
  'profile_changed',
  'account_exported',
] as const

export type SecurityEventKind = (typeof securityEventKinds)[number]

export interface SecurityEvent {
  readonly kind: SecurityEventKind
  readonly accountId: string
  readonly sessionUid?: string | undefined
  readonly address?: string | undefined
  readonly userAgent?: string | undefined
  readonly code?: string | undefined
}

export interface StoredSecurityEvent extends SecurityEvent {
  readonly at: Date
}

export type SecurityEventTable = ReturnType<typeof createSecurityEventTable>

const kept = '90 days'

/** The table `security_events`. */
export function createSecurityEventTable(database: Database) {
  return {
    async append(event: SecurityEvent): Promise<void> {
      await database.query({
        name: 'security-event-append',
        text: `insert into security_events (kind, account_id, session_uid, address, user_agent, code)
               values ($1, $2, $3, $4, $5, $6)`,
        values: [
          event.kind,
          event.accountId,
          event.sessionUid,
          event.address,
          event.userAgent,
          event.code,
        ],
      })
    },

    /** What happened to one person's sessions, the latest first. */
    async listOf(accountId: string, limit: number): Promise<StoredSecurityEvent[]> {
      const { rows } = await database.query<StoredSecurityEvent>({
        name: 'security-event-list',
        text: `select kind, account_id as "accountId", session_uid as "sessionUid", address,
                      user_agent as "userAgent", code, at
                 from security_events where account_id = $1 order by id desc limit $2`,
        values: [accountId, limit],
      })
      return rows
    },

    ...expiringRows(database, {
      table: 'security_events',
      column: 'at',
      before: `now() - interval '${kept}'`,
    }),
  }
}
