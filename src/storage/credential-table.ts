import { type AccountRow, accountColumns, asAccount } from './account-table.ts'
import { type ArtifactKey, isLive, type StoredArtifact } from './artifact-table.ts'
import { createBatch } from './batch.ts'
import {
  asBrowserSession,
  type BrowserSessionRow,
  browserSessionRow,
} from './browser-session-table.ts'
import type { Database } from './database.ts'
import { keepAhead } from './read-ahead.ts'

interface Row extends StoredArtifact {
  readonly grantId: string | null
  readonly grant: Record<string, unknown> | null
  readonly sessionUid: string | null
  readonly session: Record<string, unknown> | null
  readonly browserSession: BrowserSessionRow | null
  readonly account: AccountRow | null
}

export type CredentialTable = ReturnType<typeof createCredentialTable>

/** Codes and refresh tokens, with what they depend on. */
export function createCredentialTable(database: Database) {
  const findRow = createBatch((asked: readonly ArtifactKey[]) => findRows(database, asked))
  return {
    /**
     * Finds a code or refresh token, and reads ahead its grant, the session that it comes from, and
     * its account. All are of one moment: a grant that ended or an account that was disabled before
     * this request is seen by it. What is missing is not read ahead, and asked for by itself.
     */
    async find(key: ArtifactKey): Promise<StoredArtifact | undefined> {
      const row = await findRow(key)
      if (!row) return undefined
      const { payload, consumedAt, grantId, grant, sessionUid, session, browserSession, account } =
        row
      if (grantId && grant) keepAhead('Grant', grantId, { payload: grant, consumedAt: null })
      if (sessionUid && session) {
        keepAhead('Session', sessionUid, { payload: session, consumedAt: null })
      }
      if (sessionUid && browserSession) {
        keepAhead('BrowserSession', sessionUid, asBrowserSession(browserSession))
      }
      if (account) keepAhead('Account', account.id, asAccount(account))
      return { payload, consumedAt }
    },
  }
}

/** One row for each that was asked for, even for one that others ask for as well. */
async function findRows(
  database: Database,
  asked: readonly ArtifactKey[],
): Promise<(Row | undefined)[]> {
  const { rows } = await database.query<Row & { position: number }>({
    name: 'credential-find',
    // A limit of one in each: whatever the planner believes of the table, it goes by the keys.
    text: `select asked.position::int, credential.payload,
                  extract(epoch from credential.consumed_at)::float8 as "consumedAt",
                  credential.grant_id as "grantId", "grant".payload as "grant",
                  credential.session_uid as "sessionUid", session.payload as session,
                  to_json(browser) as "browserSession",
                  to_json(account) as account
             from unnest($1::text[], $2::bytea[]) with ordinality as asked (kind, id, position)
            cross join lateral (
                  select payload, consumed_at, grant_id, session_uid, account_id from artifacts
                   where kind = asked.kind and id = asked.id and expires_at > now()
                     and ${isLive('artifacts')}
                   limit 1) credential
             left join lateral (
                  select payload from artifacts
                   where kind = 'Grant' and id = sha256(convert_to(credential.grant_id, 'UTF8'))
                     and expires_at > now() and ${isLive('artifacts')}
                   limit 1) "grant" on true
             left join lateral (
                  select payload from artifacts
                   where kind = 'Session' and uid = credential.session_uid and expires_at > now()
                   order by expires_at desc limit 1) session on true
             left join lateral (
                  ${browserSessionRow} where browser_sessions.uid = credential.session_uid
                     and ended_at is null and browser_sessions.expires_at > now()
                   limit 1) browser on true
             left join lateral (
                  select ${accountColumns} from accounts
                   where id = credential.account_id limit 1) account on true`,
    values: [asked.map(({ kind }) => kind), asked.map(({ id }) => id)],
  })
  const found: (Row | undefined)[] = asked.map(() => undefined)
  for (const row of rows) found[row.position - 1] = row
  return found
}
