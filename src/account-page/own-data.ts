/** Everything that is kept about a person, for the person: no hash, secret or key. */
import type { Account } from '../storage/account-store.ts'
import type { ArtifactTable } from '../storage/artifact-table.ts'
import type { BrowserSessionTable } from '../storage/browser-session-table.ts'
import type { FailedSignInTable } from '../storage/failed-sign-in-table.ts'
import type { PasskeyTable } from '../storage/passkey-table.ts'
import type { SecurityEventTable } from '../storage/security-event-table.ts'

export interface OwnDataTables {
  readonly artifacts: Pick<ArtifactTable, 'listGrantsOf'>
  readonly browserSessions: Pick<BrowserSessionTable, 'listOf'>
  readonly failedSignIns: Pick<FailedSignInTable, 'listOf'>
  readonly passkeys: Pick<PasskeyTable, 'listOf'>
  readonly securityEvents: Pick<SecurityEventTable, 'listOf'>
}

/** Rows of a list that an export has at most, the latest. */
const mostRows = 5000

export async function ownDataOf(account: Account, tables: OwnDataTables): Promise<object> {
  const { id } = account
  const [passkeys, sessions, grants, events, failures] = await Promise.all([
    tables.passkeys.listOf(id),
    tables.browserSessions.listOf(id),
    tables.artifacts.listGrantsOf(id),
    tables.securityEvents.listOf(id, mostRows),
    tables.failedSignIns.listOf(id, mostRows),
  ])
  return {
    account,
    passkeys: passkeys.map(({ name, createdAt, lastUsedAt, backedUp }) => ({
      ...{ name, createdAt, lastUsedAt, backedUp },
    })),
    sessions: sessions.map(({ signedInAt, userAgent, address, binding, amr }) => ({
      ...{ signedInAt, userAgent, address, amr },
      isBoundToKey: binding !== null,
    })),
    applications: grants,
    events: events.map(({ kind, at, address, userAgent }) => ({ kind, at, address, userAgent })),
    failedSignIns: failures,
  }
}
