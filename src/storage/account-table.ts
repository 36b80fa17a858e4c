import pg from 'pg'
import {
  type Account,
  type AccountRecord,
  type AccountStore,
  type Profile,
  profileMembers,
  type RemovedAccount,
} from './account-store.ts'
import type { Database } from './database.ts'
import type { SecurityEventKind } from './security-event-table.ts'
import { isStorable } from './text.ts'

export interface AccountRow {
  id: string
  email: string
  username: string | null
  name: string | null
  emailVerified: boolean
  profile: StoredProfile
  groups: string[]
  attributes: Record<string, string>
  hasCodeApp: boolean
  disabled: boolean
  /** A string in JSON. */
  createdAt: Date | string
  updatedAt: Date | string | null
}

type StoredProfile = Pick<Account, keyof Profile | 'phoneVerified'>

export const accountColumns = `id, email, username, name, email_verified as "emailVerified", profile, groups, attributes,
  exists (select from code_apps where code_apps.account_id = accounts.id) as "hasCodeApp",
  disabled_at is not null as disabled, created_at as "createdAt", updated_at as "updatedAt"`

/** Ends all sessions, grants and mailed links of the accounts in `from`. */
export const endEverything = (from: string) => `
  ended as (
    update browser_sessions set ended_at = now()
     where ended_at is null and account_id in (select id from ${from}) returning uid
  ), revoked as (
    delete from artifacts
     where kind = 'Grant' and payload->>'accountId' in (select id from ${from}) returning id
  ), forgotten as (
    delete from recovery_links where account_id in (select id from ${from})
  )`

/** Names of parameters that say where a change came from. */
interface ChangedFrom {
  readonly address: string
  readonly userAgent: string
}

/**
 * Queues a notice of a change for the address that an account has, or had before it, where mail is
 * sent: within the bound that the trigger of `security_events` has.
 *
 * @param from - has the `id` of the account and its `previous` email.
 */
export const queueNotice = (kind: SecurityEventKind, from: string, by: ChangedFrom) => `
  insert into mail_deliveries (lane, origin, account_id, notice, expires_at)
  select id, 'notice', id,
         jsonb_build_object('kind', '${kind}', 'at', now(), 'address', ${by.address}::text,
                            'userAgent', ${by.userAgent}::text, 'to', previous),
         now() + interval '1 day'
    from ${from}
   where exists (select from mail_senders)
     and (select count(*) from (select from mail_deliveries
                                 where lane = ${from}.id limit 20) as waiting) < 20
     and (select count(*) from (select from mail_deliveries
                                 where origin = 'notice' limit 10000) as waiting) < 10000`

/**
 * What comes with another email of the accounts in `from`: the previous address learns of it, and no
 * link that was mailed to it works any more. A trigger ends open changes of the email.
 *
 * @param from - has the `id` of the account and its `previous` email.
 */
export const followEmailChange = (from: string, by: ChangedFrom) => `
  forgotten as (
    delete from recovery_links where account_id in (select id from ${from})
  ), uninvited as (
    delete from account_links where account_id in (select id from ${from})
  ), reported as (
    insert into security_events (kind, account_id, address, user_agent)
    select 'email_changed', id, ${by.address}::text, ${by.userAgent}::text from ${from}
  ), told as (${queueNotice('email_changed', from, by)})`

/** The new password ends the sessions of the old one, in the same statement. */
const endSessionsOfChanged = `
  update browser_sessions set ended_at = now()
   where ended_at is null and account_id in (select id from changed)`

/** The table `accounts`. */
export function createAccountTable(database: Database): AccountStore {
  return {
    async findById(id) {
      if (!isStorable(id)) return undefined
      const { rows } = await database.query<AccountRow>({
        name: 'account-find',
        text: `select ${accountColumns} from accounts where id = $1`,
        values: [id],
      })
      return rows[0] && asAccount(rows[0])
    },

    async findByEmail(email): Promise<AccountRecord | undefined> {
      if (!isStorable(email)) return undefined
      const { rows } = await database.query<AccountRow & { passwordHash: string }>({
        name: 'account-find-by-email',
        text: `select ${accountColumns}, password_hash as "passwordHash" from accounts where email = $1`,
        values: [email],
      })
      const [row] = rows
      return row && { account: asAccount(row), passwordHash: row.passwordHash }
    },

    async emailOfUsername(username) {
      const { rows } = await database.query<{ email: string }>({
        name: 'account-email-of-username',
        text: 'select email from accounts where username = $1',
        values: [username],
      })
      return rows[0]?.email
    },

    async insert(account, passwordHash) {
      const { id, email, username, name, emailVerified = false } = account
      const { groups = [], attributes = {} } = account
      const { rowCount } = await database.query({
        text: `insert into accounts (id, email, name, email_verified, password_hash, created_at,
                                     profile, groups, attributes, username)
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
               on conflict do nothing`,
        values: [
          id,
          email,
          name,
          emailVerified,
          passwordHash,
          account.createdAt,
          JSON.stringify(profileOf(account)),
          groups,
          JSON.stringify(attributes),
          username,
        ],
      })
      return rowCount === 1
    },

    async change(
      id,
      { email, username, name, emailVerified, phoneVerified, profile, groups, attributes = {} },
    ) {
      const changed = database.query<AccountRow>({
        text: `with present as materialized (
                 select id as present_id, email as previous from accounts where id = $1 for update
               ), changed as (
                 update accounts
                    set email = coalesce($10, email),
                        name = case when $2 then $3 else name end,
                        email_verified =
                          coalesce($4, email_verified and email = coalesce($10, email)),
                        profile = jsonb_strip_nulls(profile || $5::jsonb),
                        groups = coalesce($6::text[], groups),
                        attributes = jsonb_strip_nulls(attributes || $7::jsonb),
                        username = case when $8 then $9 else username end,
                        updated_at = now()
                   from present where id = present_id
                 returning ${accountColumns}, previous
               ), moved as (
                 select id, previous from changed where email <> previous
               ), ${followEmailChange('moved', { address: 'null', userAgent: 'null' })}
               select * from changed`,
        values: [
          id,
          name !== undefined,
          name ?? null,
          emailVerified ?? null,
          JSON.stringify({
            ...profile,
            ...(phoneVerified !== undefined && { phoneVerified: phoneVerified || null }),
          }),
          groups ?? null,
          JSON.stringify(attributes),
          username !== undefined,
          username ?? null,
          email ?? null,
        ],
      })
      try {
        const [row] = (await changed).rows
        return row && asAccount(row)
      } catch (error) {
        if (isOfConstraint(error, 'accounts_username_key')) return 'username taken'
        if (isOfConstraint(error, 'accounts_email_key')) return 'email taken'
        throw error
      }
    },

    async list() {
      const { rows } = await database.query<AccountRow>({
        text: `select ${accountColumns} from accounts order by created_at, id`,
      })
      return rows.map(asAccount)
    },

    async setPasswordHash(id, passwordHash) {
      const { rowCount } = await database.query({
        text: `with changed as (
                 update accounts set password_hash = $2 where id = $1 returning id
               ), ended as (${endSessionsOfChanged}
               ), reported as (
                 insert into security_events (kind, account_id)
                 select 'password_changed', id from changed
               )
               select from changed`,
        values: [id, passwordHash],
      })
      return rowCount === 1
    },

    async changeOwnPassword(passwordHash, { accountId, sessionUid, address, userAgent }) {
      const { rowCount } = await database.query({
        text: `with changed as (
                 update accounts set password_hash = $2 where id = $1 and disabled_at is null
                 returning id
               ), ended as (${endSessionsOfChanged} and uid is distinct from $3
               ), reported as (
                 insert into security_events (kind, account_id, session_uid, address, user_agent)
                 select 'own_password_changed', id, $3::text, $4::text, $5::text from changed
               )
               select from changed`,
        values: [accountId, passwordHash, sessionUid, address, userAgent],
      })
      return rowCount === 1
    },

    async replacePasswordHash(id, from, to) {
      await database.query({
        text: 'update accounts set password_hash = $3 where id = $1 and password_hash = $2',
        values: [id, from, to],
      })
    },

    async endSessions(id) {
      const { rowCount } = await database.query({
        text: `with changed as (select id from accounts where id = $1),
               ended as (${endSessionsOfChanged} returning uid),
               reported as (
                 insert into security_events (kind, account_id)
                 select 'all_sessions_ended', id from changed
               )
               select from ended`,
        values: [id],
      })
      return rowCount
    },

    async remove(id) {
      const { rows } = await database.query<RemovedAccount>({
        text: `with removed as (
                 delete from accounts where id = $1 returning id
               ), ${endEverything('removed')}, events as (
                 delete from security_events where account_id in (select id from removed)
               ), failures as (
                 delete from failed_sign_ins where account_id in (select id from removed)
               )
               select id, (select count(*)::int from ended) as ended,
                      (select count(*)::int from revoked) as revoked from removed`,
        values: [id],
      })
      return rows[0]
    },

    async setDisabled(id, disabled) {
      const { rowCount } = await database.query({
        text: disabled
          ? `with changed as (
               update accounts set disabled_at = coalesce(disabled_at, now()) where id = $1
               returning id
             ), ended as (${endSessionsOfChanged}
             ), reported as (
               insert into security_events (kind, account_id)
               select 'account_disabled', id from changed
             )
             select from changed`
          : 'update accounts set disabled_at = null where id = $1',
        values: [id],
      })
      return rowCount === 1
    },
  }
}

export function asAccount(row: AccountRow): Account {
  const { id, email, username, name, emailVerified, profile, groups, attributes, disabled } = row
  return {
    id,
    email,
    ...(username !== null && { username }),
    ...(name !== null && { name }),
    ...profile,
    ...(emailVerified && { emailVerified }),
    ...(groups.length > 0 && { groups }),
    ...(Object.keys(attributes).length > 0 && { attributes }),
    ...(row.hasCodeApp && { hasCodeApp: true }),
    disabled,
    createdAt: new Date(row.createdAt),
    ...(row.updatedAt !== null && { updatedAt: new Date(row.updatedAt) }),
  }
}

/** Whether a statement has failed because of a constraint. */
export const isOfConstraint = (error: unknown, constraint: string) =>
  error instanceof pg.DatabaseError && error.constraint === constraint

/** The part of an account that is stored as JSON. */
export function profileOf(account: Account): StoredProfile {
  const stored = [...profileMembers, 'phoneVerified'] as const
  const members = stored.map((member) => [member, account[member]])
  return Object.fromEntries(members.filter(([, value]) => value !== undefined))
}
