import type { OwnChange } from './account-store.ts'
import type { Database } from './database.ts'
import { type ReplayEntry, recordEntries } from './replay-table.ts'

/** The code app of an account. */
export interface CodeApp {
  /** Its secret, which only the nodes can read. */
  readonly sealed: string
}

export type SecondFactorTable = ReturnType<typeof createSecondFactorTable>

const ofChange = ({ accountId, sessionUid, address, userAgent }: OwnChange) => [
  accountId,
  sessionUid,
  address,
  userAgent,
]

const reported = (kind: string, from: string) => `
  insert into security_events (kind, account_id, session_uid, address, user_agent)
  select '${kind}', account_id, $2::text, $3::text, $4::text from ${from}`

/** Ends the other sessions of the account in `from`. */
const endOthers = (from: string) => `
  update browser_sessions set ended_at = now()
   where ended_at is null and account_id in (select account_id from ${from})
     and uid is distinct from $2`

/** Recovery codes in the place of those that the accounts in `from` have. */
const replaceCodes = (from: string, digests: string) => `
  gone as (
    delete from recovery_codes where account_id in (select account_id from ${from})
  ), codes as (
    insert into recovery_codes (account_id, digest)
    select account_id, digest from ${from}, unnest(${digests}::bytea[]) as digest
  )`

/** The tables `code_apps` and `recovery_codes`. */
export function createSecondFactorTable(database: Database) {
  return {
    async findCodeApp(accountId: string): Promise<CodeApp | undefined> {
      const { rows } = await database.query<CodeApp>({
        name: 'code-app-find',
        text: 'select sealed from code_apps where account_id = $1',
        values: [accountId],
      })
      return rows[0]
    },

    /**
     * Sets up a code app, in the place of another, and its recovery codes, by a page that is used up
     * with it. Other sessions end.
     *
     * @param step of the code that has shown that the app works: it counts no more.
     */
    async setCodeApp(
      { sealed, step, digests }: { sealed: string; step: number; digests: readonly Buffer[] },
      page: ReplayEntry,
      by: OwnChange,
    ): Promise<boolean> {
      const { rowCount } = await database.query({
        text: `with owner as materialized (
                 select id from accounts where id = $1 and disabled_at is null for update
               ), fresh as (
                 ${recordEntries('$5', '$6', 'exists (select from owner)')}
               ), made as (
                 insert into code_apps (account_id, sealed, last_step)
                 select owner.id, $7::text, $8::bigint from owner, fresh
                 on conflict on constraint code_apps_pkey do update
                    set sealed = excluded.sealed, last_step = excluded.last_step, created_at = now()
                 returning account_id
               ), ${replaceCodes('made', '$9')}, ended as (${endOthers('made')}
               ), reported as (${reported('code_app_set_up', 'made')})
               select from made`,
        values: [...ofChange(by), [page.id], [page.expiresAt], sealed, step, digests],
      })
      return rowCount === 1
    },

    /** Uses the code of a time step: of any number of calls on any number of nodes, one succeeds. */
    async useStep(accountId: string, step: number): Promise<boolean> {
      const { rowCount } = await database.query({
        name: 'code-app-use',
        text: 'update code_apps set last_step = $2 where account_id = $1 and last_step < $2',
        values: [accountId, step],
      })
      return rowCount === 1
    },

    /** Uses a recovery code, once, and tells its owner. */
    async useRecoveryCode(digest: Buffer, by: OwnChange): Promise<boolean> {
      const { rowCount } = await database.query({
        text: `with used as (
                 delete from recovery_codes where account_id = $1 and digest = $5
                 returning account_id
               ), reported as (${reported('recovery_code_used', 'used')})
               select from used`,
        values: [...ofChange(by), digest],
      })
      return rowCount === 1
    },

    /** @returns whether the account has a code app, to which such codes belong. */
    async replaceRecoveryCodes(digests: readonly Buffer[], by: OwnChange): Promise<boolean> {
      const { rowCount } = await database.query({
        text: `with owner as materialized (
                 select account_id from code_apps where account_id = $1 for update
               ), ${replaceCodes('owner', '$5')}, reported as (
                 ${reported('recovery_codes_replaced', 'owner')}
               )
               select from owner`,
        values: [...ofChange(by), digests],
      })
      return rowCount === 1
    },

    /** Removes code app and recovery codes. Other sessions end. */
    async removeCodeApp(by: OwnChange): Promise<boolean> {
      const { rowCount } = await database.query({
        text: `with removed as (
                 delete from code_apps where account_id = $1 returning account_id
               ), codes as (
                 delete from recovery_codes where account_id in (select account_id from removed)
               ), ended as (${endOthers('removed')}
               ), reported as (${reported('code_app_removed', 'removed')})
               select from removed`,
        values: ofChange(by),
      })
      return rowCount === 1
    },

    /** Seals the secret anew, only where the old seal is still there. */
    async reseal(accountId: string, from: string, to: string): Promise<void> {
      await database.query({
        text: 'update code_apps set sealed = $3 where account_id = $1 and sealed = $2',
        values: [accountId, from, to],
      })
    },

    async countRecoveryCodes(accountId: string): Promise<number> {
      const { rows } = await database.query<{ count: number }>({
        text: 'select count(*)::int as count from recovery_codes where account_id = $1',
        values: [accountId],
      })
      return rows[0]?.count ?? 0
    },
  }
}
