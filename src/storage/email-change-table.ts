import type { LinkUse } from './account-link-table.ts'
import type { OwnChange } from './account-store.ts'
import { followEmailChange, isOfConstraint, queueNotice } from './account-table.ts'
import type { Database } from './database.ts'
import { expiringRows } from './expiring-rows.ts'

export type EmailChangeTable = ReturnType<typeof createEmailChangeTable>

/** A change that can be confirmed. */
export interface OpenEmailChange {
  readonly accountId: string
  /** The email that the account has now. */
  readonly present: string
  /** The one that it will have. */
  readonly email: string
}

/** The table `email_changes`. A trigger of `security_events` ends those of an account as well. */
export function createEmailChangeTable(database: Database) {
  return {
    /**
     * Keeps a change until it is confirmed, in the place of another one of the account, and tells
     * the address that the account has now.
     *
     * @returns when it expires; undefined where there is no such account, or a disabled one.
     */
    async make(
      by: OwnChange,
      { digest, email, lifetimeS }: { digest: Buffer; email: string; lifetimeS: number },
    ): Promise<Date | undefined> {
      const { rows } = await database.query<{ expires_at: Date }>({
        text: `with account as (
                 select id, email as previous from accounts where id = $1 and disabled_at is null
               ), made as (
                 insert into email_changes (account_id, digest, email, expires_at)
                 select id, $2, $3, now() + $4 * interval '1 second' from account
                 on conflict on constraint email_changes_pkey do update
                    set digest = excluded.digest, email = excluded.email, created_at = now(),
                        expires_at = excluded.expires_at
                 returning expires_at
               ), reported as (
                 insert into security_events (kind, account_id, session_uid, address, user_agent)
                 select 'email_change_requested', id, $5::text, $6::text, $7::text from account
               ), told as (${queueNotice('email_change_requested', 'account', { address: '$6', userAgent: '$7' })})
               select expires_at from made`,
        values: [by.accountId, digest, email, lifetimeS, by.sessionUid, by.address, by.userAgent],
      })
      return rows[0]?.expires_at
    },

    /** A change that can be confirmed; nothing is used up. */
    async find(digest: Buffer): Promise<OpenEmailChange | undefined> {
      const { rows } = await database.query<OpenEmailChange>({
        name: 'email-change-find',
        text: `select accounts.id as "accountId", accounts.email as present, email_changes.email
                 from email_changes join accounts on accounts.id = account_id
                where digest = $1 and expires_at > now() and disabled_at is null`,
        values: [digest],
      })
      return rows[0]
    },

    /**
     * Changes the email of the account, which is verified by that: of any number of calls with one
     * link, one succeeds. Other links of the account end.
     *
     * @returns the id of the account; undefined where the change cannot be confirmed any more;
     * `email taken`, and nothing is changed, where another account has the address.
     */
    async confirm(digest: Buffer, by: LinkUse): Promise<string | 'email taken' | undefined> {
      // The account is locked first, as by everything that ends the change.
      const confirmed = database.query<{ id: string }>({
        text: `with found as materialized (
                 select accounts.id, accounts.email as previous
                   from email_changes join accounts on accounts.id = account_id
                  where digest = $1 and expires_at > now() and disabled_at is null
                    for update of accounts
               ), used as (
                 delete from email_changes using found
                  where digest = $1 and account_id = found.id
                 returning found.id, found.previous, email_changes.email
               ), changed as (
                 update accounts set email = used.email, email_verified = true, updated_at = now()
                   from used where accounts.id = used.id
                 returning accounts.id, used.previous
               ), ${followEmailChange('changed', { address: '$2', userAgent: '$3' })}
               select id from changed`,
        values: [digest, by.address, by.userAgent],
      })
      try {
        return (await confirmed).rows[0]?.id
      } catch (error) {
        if (isOfConstraint(error, 'accounts_email_key')) return 'email taken'
        throw error
      }
    },

    ...expiringRows(database, { table: 'email_changes', column: 'expires_at', before: 'now()' }),
  }
}
