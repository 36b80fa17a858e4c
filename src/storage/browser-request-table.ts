import type { Account } from './account-store.ts'
import { type AccountRow, accountColumns, asAccount } from './account-table.ts'
import { type Artifact, type ArtifactKey, isLive, type StoredArtifact } from './artifact-table.ts'
import {
  asBrowserSession,
  type BrowserSession,
  type BrowserSessionRow,
  browserSessionRow,
  type SessionChange,
} from './browser-session-table.ts'
import { endsWith } from './client-document-table.ts'
import type { Database } from './database.ts'

/** What a request of a browser names, by its cookies and parameters. */
export interface BrowserQuestion {
  readonly session: ArtifactKey | undefined
  /** The interaction that the request continues. */
  readonly interaction: ArtifactKey | undefined
  /** Who signs in by that interaction: in the place of the one whose session it is. */
  readonly accountId: string | undefined
  /** The grant that was given in that interaction, in the place of the session's for the client. */
  readonly grantId: string | undefined
  readonly clientId: string | undefined
}

/** All of one moment. */
export interface FoundBrowser {
  /** The engine's part of the session, if both parts are alive and of one account. */
  readonly session: Record<string, unknown> | undefined
  readonly browserSession: BrowserSession | undefined
  readonly account: Account | undefined
  readonly grantId: string | undefined
  readonly grant: StoredArtifact | undefined
  /** One that is a row, or was used: then nothing but that is known of it. */
  readonly interaction: StoredArtifact | undefined
}

/** What one request of a browser writes, together or not at all. */
export interface BrowserChange {
  /** An interaction that may be used once. Its row may be the first. */
  readonly uses: (ArtifactKey & { readonly expiresAt: number }) | undefined
  /** A pushed request that may be used once. */
  readonly consumes: ArtifactKey | undefined
  readonly written: readonly Artifact[]
  readonly removed: ArtifactKey | undefined
  readonly session: SessionChange | undefined
}

export type BrowserOutcome =
  | {
      readonly outcome: 'committed'
      readonly isNewSession: boolean
      /** Whether the session was bound to the page key of the change. */
      readonly isBound: boolean
    }
  /** By another request: nothing was written. */
  | { readonly outcome: 'interaction used' | 'request consumed' }

export type BrowserRequestTable = ReturnType<typeof createBrowserRequestTable>

interface FoundRow {
  readonly session: Record<string, unknown> | null
  readonly browserSession: BrowserSessionRow | null
  readonly account: AccountRow | null
  readonly grantId: string | null
  readonly grant: Record<string, unknown> | null
  readonly interaction: Record<string, unknown> | null
  readonly consumedAt: number | null
}

interface CommitRow {
  readonly used: boolean
  readonly consumed: boolean
  readonly isNew: boolean
  readonly isBound: boolean
}

/** What requests of browsers read and write: one statement each. */
export function createBrowserRequestTable(database: Database) {
  return {
    async find(asked: BrowserQuestion): Promise<FoundBrowser> {
      const { rows } = await database.query<FoundRow>({
        name: 'browser-request-find',
        // A limit of one in each: whatever the planner believes of a table, it goes by the keys. The
        // kinds are parameters, because the constant would allow an index that has no id.
        text: `select session.payload as session, to_json(browser) as "browserSession",
                      to_json(account) as account, named.grant_id as "grantId",
                      "grant".payload as "grant", interaction.payload as interaction,
                      extract(epoch from interaction.consumed_at)::float8 as "consumedAt"
                 from (select) as asked
                 left join lateral (
                      select payload, uid, account_id from artifacts
                       where kind = $6 and id = $1 and expires_at > now() limit 1) session on true
                 left join lateral (
                      ${browserSessionRow} where browser_sessions.uid = session.uid
                         and account_id = session.account_id
                         and ended_at is null and browser_sessions.expires_at > now()
                       limit 1) browser on true
                 left join lateral (
                      select ${accountColumns} from accounts
                       where id = coalesce($3, browser."accountId") limit 1) account on true
                 left join lateral (
                      select coalesce($4, browser.authorizations #>> array[$5, 'grantId'])
                          as grant_id) named on true
                 left join lateral (
                      select payload from artifacts
                       where kind = $7 and id = sha256(convert_to(named.grant_id, 'UTF8'))
                         and expires_at > now() and ${isLive('artifacts')} limit 1) "grant" on true
                 left join lateral (
                      select payload, consumed_at from artifacts
                       where kind = $8 and id = $2 and expires_at > now() and ${isLive('artifacts')}
                       limit 1) interaction on true`,
        values: [
          asked.session?.id,
          asked.interaction?.id,
          asked.accountId,
          asked.grantId,
          asked.clientId,
          'Session',
          'Grant',
          'Interaction',
        ],
      })
      return asFound(rows[0])
    },

    /**
     * Uses up an interaction and a pushed request, and writes a session and artifacts: of any number
     * of concurrent calls that use the same, one succeeds. A session that has ended stays as it is,
     * and what concurrent requests change of it stays.
     */
    async commit(change: Partial<BrowserChange>): Promise<BrowserOutcome> {
      const { uses, consumes, written = [], removed, session } = change
      const { pageKey } = session ?? {}
      const { rows } = await database.query<CommitRow>({
        name: 'browser-request-commit',
        text: `with used as (
                 insert into artifacts (kind, id, payload, expires_at, consumed_at)
                 select $1::text, $2::bytea, '{}', to_timestamp($3), now() where $2 is not null
                 on conflict on constraint artifacts_pkey do update set consumed_at = now()
                  where artifacts.consumed_at is null and artifacts.expires_at > now()
                 returning true
               ), consumed as (
                 update artifacts set consumed_at = now()
                  where kind = $4 and id = $5 and consumed_at is null and expires_at > now()
                    and ($2 is null or (select true from used))
                 returning true
               ), opened as (
                 select where ($2 is null or (select true from used))
                          and ($5 is null or (select true from consumed))
               ), session as (
                 insert into browser_sessions (uid, account_id, authorizations, user_agent, address,
                                               signed_in_at, expires_at, tbh, amr)
                 select $6, $7, $8, $9, $10, to_timestamp($11), to_timestamp($12), $13, $27::text[]
                   from opened where $6::text is not null
                 on conflict on constraint browser_sessions_pkey do update
                    set authorizations =
                          (browser_sessions.authorizations - $14::text[]) || excluded.authorizations,
                        signed_in_at = greatest(browser_sessions.signed_in_at, excluded.signed_in_at),
                        expires_at = greatest(browser_sessions.expires_at, excluded.expires_at),
                        tbh = coalesce(browser_sessions.tbh, excluded.tbh),
                        amr = coalesce(excluded.amr, browser_sessions.amr)
                  where browser_sessions.ended_at is null
                    and browser_sessions.account_id = excluded.account_id
                 returning uid, account_id, address, user_agent, xmax = 0 as is_new
               ), bound as (
                 insert into session_bindings (uid, method, jkt, alg, jwk)
                 select uid, 'page-key', $28, 'ES256', $29 from session where $28::text is not null
                 on conflict on constraint session_bindings_pkey do nothing
                 returning true
               ), told as (
                 insert into security_events (kind, account_id, session_uid, address, user_agent)
                 select 'signed_in', account_id, uid, address, user_agent from session where is_new
               ), removed as (
                 delete from artifacts using opened where kind = $15 and id = $16
               ), written as (
                 insert into artifacts
                        (kind, id, grant_id, uid, account_id, session_uid, payload, expires_at,
                         family_id, client_id, client_incarnation)
                 select kind, id, grant_id, uid, account_id, session_uid, payload,
                        to_timestamp(expires_at), family_id, client_id,
                        (select incarnation from clients where clients.id = new.client_id)
                   from opened, unnest($17::text[], $18::bytea[], $19::text[], $20::text[],
                               $21::text[], $22::text[], $23::json[], $24::float8[],
                               $25::text[], $26::text[])
                     as new (kind, id, grant_id, uid, account_id, session_uid, payload, expires_at,
                             family_id, client_id)
                 on conflict on constraint artifacts_pkey do update
                    set payload = excluded.payload, expires_at = excluded.expires_at
               )
               select coalesce((select true from used), false) as used,
                      coalesce((select true from consumed), false) as consumed,
                      coalesce((select is_new from session), false) as "isNew",
                      coalesce((select true from bound), false) as "isBound"`,
        values: [
          uses?.kind,
          uses?.id,
          uses?.expiresAt,
          consumes?.kind,
          consumes?.id,
          session?.uid,
          session?.accountId,
          session && JSON.stringify(session.authorized),
          session?.userAgent,
          session?.address,
          session?.signedInAt,
          session?.expiresAt,
          session?.tbh,
          session?.withdrawn ?? [],
          removed?.kind,
          removed?.id,
          written.map(({ kind }) => kind),
          written.map(({ id }) => id),
          written.map(({ grantId }) => grantId),
          written.map(({ uid }) => uid),
          written.map(({ accountId }) => accountId),
          written.map(({ sessionUid }) => sessionUid),
          written.map(({ payload }) => JSON.stringify(payload)),
          written.map(({ expiresAt }) => expiresAt),
          written.map(({ familyId }) => familyId),
          written.map(({ clientId }) => endsWith(clientId)),
          session?.amr,
          pageKey?.jkt,
          pageKey && JSON.stringify({ crv: 'P-256', kty: 'EC', x: pageKey.x, y: pageKey.y }),
        ],
      })
      const [done] = rows
      if (uses && !done?.used) return { outcome: 'interaction used' }
      if (consumes && !done?.consumed) return { outcome: 'request consumed' }
      const isNewSession = done?.isNew === true
      return { outcome: 'committed', isNewSession, isBound: done?.isBound === true }
    },
  }
}

function asFound(row: FoundRow | undefined): FoundBrowser {
  const { session, browserSession, account, grantId, grant, interaction, consumedAt } = row ?? {}
  const isWhole = session && browserSession
  return {
    session: isWhole ? session : undefined,
    browserSession: isWhole ? asBrowserSession(browserSession) : undefined,
    account: account ? asAccount(account) : undefined,
    grantId: grantId ?? undefined,
    grant: grant ? { payload: grant, consumedAt: null } : undefined,
    interaction: interaction ? { payload: interaction, consumedAt: consumedAt ?? null } : undefined,
  }
}
