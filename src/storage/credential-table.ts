import { type AccountRow, accountColumns, asAccount } from './account-table.ts'
import type { ArtifactKey, StoredArtifact } from './artifact-table.ts'
import type { Database } from './database.ts'
import { keepAhead } from './read-ahead.ts'

interface Row extends StoredArtifact {
  readonly grantId: string | null
  readonly grant: Record<string, unknown> | null
  readonly sessionUid: string | null
  readonly session: Record<string, unknown> | null
  readonly account: AccountRow | null
}

export type CredentialTable = ReturnType<typeof createCredentialTable>

/** Codes and refresh tokens, with what they depend on. */
export function createCredentialTable(database: Database) {
  return {
    /**
     * Finds a code or refresh token, and reads ahead its grant, the session that it ends with, and
     * its account. All are of one moment: a grant that ended or an account that was disabled before
     * this statement is seen by it. What is missing is not read ahead, and asked for by itself.
     */
    async find({ kind, id }: ArtifactKey): Promise<StoredArtifact | undefined> {
      const { rows } = await database.query<Row>({
        name: 'credential-find',
        text: `select credential.payload,
                      extract(epoch from credential.consumed_at)::float8 as "consumedAt",
                      credential.grant_id as "grantId", "grant".payload as "grant",
                      credential.session_uid as "sessionUid", session.payload as session,
                      to_json(account) as account
                 from artifacts credential
                 left join artifacts "grant"
                   on "grant".kind = 'Grant'
                  and "grant".id = sha256(convert_to(credential.grant_id, 'UTF8'))
                  and "grant".expires_at > now()
                 left join lateral (
                      select payload from artifacts
                       where kind = 'Session' and uid = credential.session_uid and expires_at > now()
                       order by expires_at desc limit 1) session on true
                 left join lateral (
                      select ${accountColumns} from accounts
                       where id = credential.account_id) account on true
                where credential.kind = $1 and credential.id = $2
                  and credential.expires_at > now()`,
        values: [kind, id],
      })
      const [row] = rows
      if (!row) return undefined
      const { payload, consumedAt, grantId, grant, sessionUid, session, account } = row
      if (grantId && grant) keepAhead('Grant', grantId, { payload: grant, consumedAt: null })
      if (sessionUid && session) {
        keepAhead('Session', sessionUid, { payload: session, consumedAt: null })
      }
      if (account) keepAhead('Account', account.id, asAccount(account))
      return { payload, consumedAt }
    },
  }
}
