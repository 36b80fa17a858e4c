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
import { type ReplayEntry, recordEntries } from './replay-table.ts'

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

/** Keys to look up for a request that shows a one-time value. */
interface Question {
  readonly keys: readonly ArtifactKey[]
  readonly entry: ReplayEntry
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
  const findRowsOnce = createBatch((asked: readonly Question[]) => findAndRecord(database, asked))
  return {
    /**
     * Finds a code or token, its grant, the session that it comes from, and its account: a grant
     * that ended or an account that was disabled before this request is seen by it. Calls that come
     * together are one statement. What is stored is of the shapes that the caller names.
     */
    async find<Source, Grant = never, Session = never>(
      key: ArtifactKey,
    ): Promise<FoundCredential<Source, Grant, Session> | undefined> {
      return foundOf(await findRow(key))
    },

    /**
     * The same for a request that writes nothing else and shows a one-time value: one statement
     * records the value and finds what each of the keys stands for.
     *
     * @returns `replayed` where another request has shown the value before.
     */
    async findOnce<Source, Grant = never, Session = never>(
      keys: readonly ArtifactKey[],
      entry: ReplayEntry,
    ): Promise<(FoundCredential<Source, Grant, Session> | undefined)[] | 'replayed'> {
      const rows = await findRowsOnce({ keys, entry })
      return rows === 'replayed' ? rows : rows.map((row) => foundOf<Source, Grant, Session>(row))
    },

    /**
     * Whether a token that is not stored was revoked, or its account is not there any more; the same
     * statement records a one-time value, if there is one.
     */
    async stateOf(
      revocation: ArtifactKey,
      accountId: string | undefined,
      entry?: ReplayEntry,
    ): Promise<'active' | 'revoked' | 'account gone' | 'replayed'> {
      const values = [revocation.kind, revocation.id, accountId ?? null]
      const statement = entry
        ? {
            name: 'credential-state-once',
            text: `with recorded as (
                     ${recordEntries('$4', '$5')}
                   )
                   ${selectState}, (select count(*) from recorded)::int as entries`,
            values: [...values, [entry.id], [entry.expiresAt]],
          }
        : { name: 'credential-state', text: selectState, values }
      const { rows } = await database.query<{ revoked: boolean; gone: boolean; entries?: number }>(
        statement,
      )
      const [row] = rows
      if (entry && row?.entries !== 1) return 'replayed'
      if (row?.revoked !== false) return 'revoked'
      return row.gone ? 'account gone' : 'active'
    },
  }
}

/**
 * The state of a token that is not stored. It writes nothing, so that a standby can be asked. By no
 * clock: that a token was revoked is true for as long as the row is there.
 */
const selectState = `select exists (
                            select from artifacts where kind = $1 and id = $2) as revoked,
                          $3::text is not null and not exists (
                            select from accounts where id = $3 and disabled_at is null) as gone`

function foundOf<Source, Grant, Session>(
  row: Row | undefined,
): FoundCredential<Source, Grant, Session> | undefined {
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
}

/**
 * The credentials of the keys in `$1` and `$2`; `$3` is 'Grant'. A limit of one in each: whatever
 * the planner believes of the table, it goes by the keys. The kind of grants is a parameter, because
 * the constant would allow an index that has no id.
 */
const selectCredentials = `
           select asked.position::int, credential.payload,
                  extract(epoch from credential.consumed_at)::float8 as "consumedAt",
                  "grant".payload as "grant", session.payload as session,
                  to_json(browser) as "browserSession",
                  to_json(account) as account, null as entry
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
                   where id = credential.account_id limit 1) account on true`

/** One row for each that was asked for, even for one that others ask for as well. */
async function findRows(
  database: Database,
  asked: readonly ArtifactKey[],
): Promise<(Row | undefined)[]> {
  const { rows } = await database.query<Row & { position: number }>({
    name: 'credential-find',
    text: selectCredentials,
    values: [asked.map(({ kind }) => kind), asked.map(({ id }) => id), 'Grant'],
  })
  const found: (Row | undefined)[] = asked.map(() => undefined)
  for (const row of rows) found[row.position - 1] = row
  return found
}

/** Rows by question: of those that show the same value, the first may have it. */
async function findAndRecord(
  database: Database,
  questions: readonly Question[],
): Promise<((Row | undefined)[] | 'replayed')[]> {
  const asked = questions.flatMap(({ keys }) => keys)
  const entries = questions.map(({ entry }) => entry)
  const { rows } = await database.query<Row & { position: number; entry: string | null }>({
    name: 'credential-find-once',
    text: `with recorded as (
             ${recordEntries('$4', '$5')}
           )
           ${selectCredentials}
           union all
           select null, null, null, null, null, null, null, id from recorded`,
    values: [
      asked.map(({ kind }) => kind),
      asked.map(({ id }) => id),
      'Grant',
      entries.map(({ id }) => id),
      entries.map(({ expiresAt }) => expiresAt),
    ],
  })
  const recorded = new Set(rows.map(({ entry }) => entry))
  const found = new Map(rows.map((row) => [row.position - 1, row]))
  let at = 0
  return questions.map(({ keys, entry }) => {
    const own = keys.map(() => found.get(at++))
    return recorded.delete(entry.id) ? own : 'replayed'
  })
}
