import type { Account } from './account-store.ts'
import { type AccountRow, accountColumns, asAccount, endEverything } from './account-table.ts'
import type { Database } from './database.ts'
import { expiringRows } from './expiring-rows.ts'

/** Who uses a link, for the owner of the account to read. */
export interface LinkUse {
  readonly address: string | undefined
  readonly userAgent: string | undefined
}

/** What a reset has ended. */
export interface ResetCredentials {
  readonly expiresAt: Date
  /** Sessions. */
  readonly ended: number
  /** Grants. */
  readonly revoked: number
}

export type AccountLinkTable = ReturnType<typeof createAccountLinkTable>

/** Makes a link of the accounts in `from`, in the place of the previous one. */
const makeLink = (from: string) => `
  insert into account_links as present (account_id, digest, expires_at)
  select id, $2::bytea, now() + $3 * interval '1 second' from ${from}
  on conflict on constraint account_links_pkey do update
     set digest = excluded.digest, created_at = now(), expires_at = excluded.expires_at
  returning expires_at`

/**
 * Uses a link up: its row count decides. The `id` of the row is that of the account.
 *
 * @param digest - as the name of a parameter.
 * @param condition - of SQL, without which the link stays.
 */
export const useLink = (digest: string, condition = 'true') => `
  delete from account_links using accounts
   where digest = ${digest} and expires_at > now() and accounts.id = account_links.account_id
     and disabled_at is null and ${condition}
  returning accounts.id`

/** The table `account_links`. */
export function createAccountLinkTable(database: Database) {
  return {
    /**
     * Makes a link of an account. What the account has of credentials stays until it is used.
     *
     * @returns when it expires; undefined where there is no such account.
     */
    async make(accountId: string, digest: Buffer, lifetimeS: number): Promise<Date | undefined> {
      const { rows } = await database.query<{ expires_at: Date }>({
        text: `with account as (select id from accounts where id = $1) ${makeLink('account')}`,
        values: [accountId, digest, lifetimeS],
      })
      return rows[0]?.expires_at
    },

    /**
     * Makes a link, and takes everything from an account that its person may have lost: the
     * password, sessions and grants, and what else is asked for.
     *
     * @param absent the hash of no password.
     */
    async reset(
      accountId: string,
      { digest, lifetimeS, absent, passkeys, codeApp }: ResetRequest,
    ): Promise<ResetCredentials | undefined> {
      const { rows } = await database.query<ResetCredentials>({
        text: `with changed as (
                 update accounts set password_hash = $4 where id = $1 returning id
               ), made as (${makeLink('changed')}
               ), ${endEverything('changed')}, removed as (
                 delete from passkeys where $5 and account_id in (select id from changed)
               ), app as (
                 delete from code_apps where $6 and account_id in (select id from changed)
               ), codes as (
                 delete from recovery_codes where $6 and account_id in (select id from changed)
               ), reported as (
                 insert into security_events (kind, account_id)
                 select 'account_reset', id from changed
               )
               select expires_at as "expiresAt", (select count(*)::int from ended) as ended,
                      (select count(*)::int from revoked) as revoked from made`,
        values: [accountId, digest, lifetimeS, absent, passkeys, codeApp],
      })
      return rows[0]
    },

    /** The account of a link that can be used; nothing is used up. */
    async find(digest: Buffer): Promise<Account | undefined> {
      const { rows } = await database.query<AccountRow>({
        name: 'account-link-find',
        text: `select ${accountColumns} from accounts
                where disabled_at is null and id = (
                      select account_id from account_links where digest = $1 and expires_at > now())`,
        values: [digest],
      })
      return rows[0] && asAccount(rows[0])
    },

    /**
     * Sets a password by a link: of any number of calls with one link, one succeeds. All sessions
     * and grants of the account end.
     */
    async setPassword(digest: Buffer, passwordHash: string, by: LinkUse): Promise<boolean> {
      const { rowCount } = await database.query({
        text: `with used as (${useLink('$1')}
               ), changed as (
                 update accounts set password_hash = $2 from used where accounts.id = used.id
                 returning accounts.id
               ), ${endEverything('changed')}, reported as (
                 insert into security_events (kind, account_id, address, user_agent)
                 select 'password_changed', id, $3::text, $4::text from changed
               )
               select from changed`,
        values: [digest, passwordHash, by.address, by.userAgent],
      })
      return rowCount === 1
    },

    ...expiringRows(database, {
      table: 'account_links',
      column: 'expires_at',
      before: 'now()',
    }),
  }
}

/** What else a person may have lost: a code app goes with its recovery codes. */
export interface ResetFactors {
  readonly passkeys: boolean
  readonly codeApp: boolean
}

interface ResetRequest extends ResetFactors {
  readonly digest: Buffer
  readonly lifetimeS: number
  readonly absent: string
}
