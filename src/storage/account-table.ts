import type { Account, AccountRecord, AccountStore } from './account-store.ts'
import type { Database } from './database.ts'
import { isStorable } from './text.ts'

export interface AccountRow {
  id: string
  email: string
  name: string | null
  emailVerified: boolean
  disabled: boolean
  /** A string in JSON. */
  createdAt: Date | string
}

export const accountColumns = `id, email, name, email_verified as "emailVerified", disabled_at is not null as disabled, created_at as "createdAt"`

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

    async insert({ id, email, name, emailVerified = false, createdAt }, passwordHash) {
      const { rowCount } = await database.query({
        text: `insert into accounts (id, email, name, email_verified, password_hash, created_at)
               values ($1, $2, $3, $4, $5, $6)
               on conflict on constraint accounts_email_key do nothing`,
        values: [id, email, name, emailVerified, passwordHash, createdAt],
      })
      return rowCount === 1
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
  const { id, email, name, emailVerified, disabled, createdAt } = row
  const named = name === null ? {} : { name }
  const verified = emailVerified ? { emailVerified } : {}
  return { id, email, ...named, ...verified, disabled, createdAt: new Date(createdAt) }
}
