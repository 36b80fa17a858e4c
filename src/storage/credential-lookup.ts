import type { Account } from './account-store.ts'
import { type AccountRow, accountColumns, asAccount } from './account-table.ts'
import { type ArtifactKey, isLive } from './artifact-table.ts'
import { createBatch } from './batch.ts'
import {
  asBrowserSession,
  type BrowserSession,
  type BrowserSessionRow,
  browserSessionRow,
} from './browser-session-table.ts'
import type { Database } from './database.ts'

/** A credential with what it depends on, all of one moment. */
export interface FoundCredential<Source, Grant, Session> {
  readonly source: Source
  /** Seconds since the epoch, or null. */
  readonly consumedAt: number | null
  readonly grant: Grant | undefined
  /** The engine's copy of the session that it comes from. */
  readonly session: Session | undefined
  /** The row of that session, if it is alive. */
  readonly browserSession: BrowserSession | undefined
  readonly account: Account | undefined
}

interface Row {
  readonly payload: Record<string, unknown>
  readonly consumedAt: number | null
  readonly grant: Record<string, unknown> | null
  readonly session: Record<string, unknown> | null
  readonly browserSession: BrowserSessionRow | null
  readonly account: AccountRow | null
}

export type CredentialLookup = ReturnType<typeof createCredentialLookup>

/** Codes and tokens, with what they depend on. */
export function createCredentialLookup(database: Database) {
  const findRow = createBatch((asked: readonly ArtifactKey[]) => findRows(database, asked))
  return {
    /**
     * Finds a code or token, its grant, the session that it comes from, and its account: a grant
     * that ended or an account that was disabled before this request is seen by it. Calls that come
     * together are one statement. What is stored is of the shapes that the caller names.
     */
    async find<Source, Grant = never, Session = never>(
      key: ArtifactKey,
    ): Promise<FoundCredential<Source, Grant, Session> | undefined> {
      const row = await findRow(key)
      if (!row) return undefined
      const { payload, consumedAt, grant, session, browserSession, account } = row
      return {
        source: payload as Source,
        consumedAt,
        grant: (grant ?? undefined) as Grant | undefined,
        session: (session ?? undefined) as Session | undefined,
        browserSession: browserSession ? asBrowserSession(browserSession) : undefined,
        account: account ? asAccount(account) : undefined,
      }
    },

    /** Whether a token that is not stored was revoked, or its account is not there any more. */
    async stateOf(
      revocation: ArtifactKey,
      accountId: string | undefined,
    ): Promise<'active' | 'revoked' | 'account gone'> {
      const { rows } = await database.query<{ revoked: boolean; gone: boolean }>({
        name: 'credential-state',
        text: `select exists (select from artifacts
                               where kind = $1 and id = $2 and expires_at > now()) as revoked,
                      $3::text is not null and not exists (
                        select from accounts where id = $3 and disabled_at is null) as gone`,
        values: [revocation.kind, revocation.id, accountId ?? null],
      })
      if (rows[0]?.revoked !== false) return 'revoked'
      return rows[0].gone ? 'account gone' : 'active'
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
    // A limit of one in each: whatever the planner believes of the table, it goes by the keys. The
    // kind 'Grant' is a parameter, because the constant would allow an index that has no id.
    text: `select asked.position::int, credential.payload,
                  extract(epoch from credential.consumed_at)::float8 as "consumedAt",
                  "grant".payload as "grant", session.payload as session,
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
                   where kind = $3 and id = sha256(convert_to(credential.grant_id, 'UTF8'))
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
    values: [asked.map(({ kind }) => kind), asked.map(({ id }) => id), 'Grant'],
  })
  const found: (Row | undefined)[] = asked.map(() => undefined)
  for (const row of rows) found[row.position - 1] = row
  return found
}
