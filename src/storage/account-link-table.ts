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
 * Uses a link up, of an operator or mailed: the row count of `used` decides. It has the `id` of the
 * account, and whether the link was `mailed` alone, so that its mailbox is that of the person.
 *
 * @param digest - as the name of a parameter.
 * @param condition - of SQL about an account, without which the link stays.
 */
export const useLink = (digest: string, condition: (account: string) => string = () => 'true') => `
  invited as (
    delete from account_links using accounts
     where digest = ${digest} and expires_at > now() and accounts.id = account_links.account_id
       and disabled_at is null and ${condition('accounts.id')}
    returning accounts.id
  ), found as materialized (
    select accounts.id from recovery_links join accounts on accounts.id = account_id
     where digest = ${digest} and expires_at > now()
       and disabled_at is null and ${condition('accounts.id')}
       for update of accounts
  ), recovered as (
    delete from recovery_links using found
     where digest = ${digest} and account_id = found.id
    returning found.id
  ), used as (
    select id, false as mailed from invited union all select id, true from recovered
  )`

/** A link that can be used. */
export interface FoundLink {
  readonly account: Account
  /** Whether it was mailed to someone who forgot how to sign in. */
  readonly isMailed: boolean
}

const expiry = { column: 'expires_at', before: 'now()' }

/** The tables `account_links` and `recovery_links`. */
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

    /**
     * Makes a link that is mailed to the address of an account. Others stay, so that the mails that
     * someone else has caused hold links that work.
     *
     * @returns when it expires; undefined where no account that can be used has this address.
     */
    async recover(email: string, digest: Buffer, lifetimeS: number): Promise<Date | undefined> {
      const { rows } = await database.query<{ expires_at: Date }>({
        name: 'recovery-link-make',
        text: `insert into recovery_links (account_id, digest, expires_at)
               select id, $2, now() + $3 * interval '1 second' from accounts
                where email = $1 and disabled_at is null
               returning expires_at`,
        values: [email, digest, lifetimeS],
      })
      return rows[0]?.expires_at
    },

    /** A link that can be used; nothing is used up. */
    async find(digest: Buffer): Promise<FoundLink | undefined> {
      const { rows } = await database.query<AccountRow & { isMailed: boolean }>({
        name: 'account-link-find',
        text: `select ${accountColumns}, link.mailed as "isMailed"
                 from accounts
                 join (select account_id, expires_at, false as mailed from account_links
                        where digest = $1
                       union all
                       select account_id, expires_at, true from recovery_links where digest = $1) link
                   on link.account_id = accounts.id
                where disabled_at is null and link.expires_at > now()`,
        values: [digest],
      })
      const [row] = rows
      return row && { account: asAccount(row), isMailed: row.isMailed }
    },

    /**
     * Sets a password by a link: of any number of calls with one link, one succeeds. All sessions
     * and grants of the account end.
     */
    async setPassword(digest: Buffer, passwordHash: string, by: LinkUse): Promise<boolean> {
      const { rowCount } = await database.query({
        text: `with ${useLink('$1')}, changed as (
                 update accounts
                    set password_hash = $2, email_verified = email_verified or used.mailed
                   from used where accounts.id = used.id
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

    ...expiringRows(database, { table: 'account_links', ...expiry }),
    recovery: expiringRows(database, { table: 'recovery_links', ...expiry }),
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
