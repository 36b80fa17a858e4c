import type { Account } from './account-store.ts'
import { type AccountRow, accountColumns, asAccount, profileOf } from './account-table.ts'
import type { Database } from './database.ts'

/** A passkey with everything that checks its signatures, none of which is secret. */
export interface MovedPasskey {
  /** base64url. */
  readonly credentialId: string
  /** COSE (RFC 9053), base64url. */
  readonly publicKey: string
  readonly signCount: number
  readonly transports: readonly string[]
  readonly aaguid: string
  readonly name: string
  readonly backupEligible: boolean
  readonly backedUp: boolean
  /** RFC 3339. */
  readonly createdAt: string
  readonly lastUsedAt: string | null
}

/** An account as it moves from one system to another. */
export interface MovedAccount {
  readonly account: Account
  readonly passwordHash: string
  readonly passkeys: readonly MovedPasskey[]
}

/** What is there of what accounts of an import name. */
export interface TakenNames {
  readonly accounts: readonly Pick<Account, 'id' | 'email' | 'username'>[]
  readonly credentialIds: readonly string[]
}

/** Accounts read by one statement. */
const exportBatch = 500

const inBase64url = (column: string) => `translate(encode(${column}, 'base64'), E'+/=\\n', '-_')`

const passkeysOfAccount = `(
  select coalesce(json_agg(json_build_object(
           'credentialId', ${inBase64url('credential_id')},
           'publicKey', ${inBase64url('public_key')},
           'signCount', sign_count, 'transports', transports, 'aaguid', aaguid,
           'name', passkeys.name, 'backupEligible', backup_eligible, 'backedUp', backed_up,
           'createdAt', passkeys.created_at, 'lastUsedAt', last_used_at) order by passkeys.created_at, passkeys.id), '[]')
    from passkeys where passkeys.account_id = accounts.id)`

type ExportedRow = AccountRow & Pick<MovedAccount, 'passwordHash' | 'passkeys'>

export type AccountTransferTable = ReturnType<typeof createAccountTransferTable>

/** Many accounts at once, of the tables `accounts` and `passkeys`. */
export function createAccountTransferTable(database: Database) {
  return {
    /** Which of these ids, emails, usernames and credential ids some account has. */
    async findTaken(batch: readonly MovedAccount[]): Promise<TakenNames> {
      const { rows } = await database.query<TakenNames['accounts'][number]>({
        name: 'account-transfer-find',
        text: `select id, email, username from accounts
                where id = any($1) or email = any($2) or username = any($3)`,
        values: [
          batch.map(({ account }) => account.id),
          batch.map(({ account }) => account.email),
          batch.flatMap(({ account }) => account.username ?? []),
        ],
      })
      const ids = batch.flatMap(({ passkeys }) => passkeys.map((each) => each.credentialId))
      if (ids.length === 0) return { accounts: rows, credentialIds: [] }
      const found = await database.query<{ id: string }>({
        name: 'account-transfer-find-passkeys',
        text: `select ${inBase64url('credential_id')} as id from passkeys
                where credential_id = any($1::bytea[])`,
        values: [ids.map((id) => Buffer.from(id, 'base64url'))],
      })
      return { accounts: rows, credentialIds: found.rows.map(({ id }) => id) }
    },

    /**
     * Adds accounts with their passkeys, by one statement. An account whose id, email, username or
     * passkey is taken is left out.
     *
     * @returns the ids of those that were added.
     */
    async insert(batch: readonly MovedAccount[]): Promise<ReadonlySet<string>> {
      const { rows } = await database.query<{ id: string }>({
        name: 'account-transfer-insert',
        text: `with new as (
                 select * from json_to_recordset($1::json) as row (
                   id text, email text, username text, name text, "emailVerified" boolean, "passwordHash" text,
                   profile jsonb, groups json, attributes jsonb, disabled boolean,
                   "createdAt" timestamptz, "updatedAt" timestamptz)
               ), key as materialized (
                 select * from json_to_recordset($2::json) as row (
                   account text, "credentialId" text, "publicKey" text, "signCount" bigint,
                   transports json, aaguid uuid, name text, "backupEligible" boolean,
                   "backedUp" boolean, "createdAt" timestamptz, "lastUsedAt" timestamptz)
               ), added as (
                 insert into accounts (id, email, username, name, email_verified, password_hash, profile,
                                       groups, attributes, disabled_at, created_at, updated_at)
                 select id, email, username, name, "emailVerified", "passwordHash", profile,
                        array(select json_array_elements_text(groups)), attributes,
                        case when disabled then now() end, "createdAt", "updatedAt"
                   from new
                  where not exists (
                        select from key join passkeys
                            on credential_id = decode("credentialId", 'hex')
                         where account = new.id)
                  order by email
                 on conflict do nothing
                 returning id
               ), keys as (
                 insert into passkeys (account_id, credential_id, public_key, sign_count, transports,
                                       aaguid, name, backup_eligible, backed_up, created_at, last_used_at)
                 select account, decode("credentialId", 'hex'), decode("publicKey", 'hex'), "signCount",
                        array(select json_array_elements_text(transports)), aaguid, key.name,
                        "backupEligible", "backedUp", "createdAt", "lastUsedAt"
                   from key join added on added.id = account
               )
               select id from added`,
        values: [
          JSON.stringify(batch.map(accountRow)),
          JSON.stringify(
            batch.flatMap(({ account, passkeys }) =>
              passkeys.map((each) => passkeyRow(account.id, each)),
            ),
          ),
        ],
      })
      return new Set(rows.map(({ id }) => id))
    },

    /**
     * Accounts by the order of their ids, some of them in memory at a time. One that is added
     * meanwhile may be missing.
     */
    async *all(after = ''): AsyncGenerator<MovedAccount> {
      for (let last = after; ; ) {
        const batch = await listAfter(last, exportBatch)
        yield* batch
        const end = batch.at(-1)
        if (!end || batch.length < exportBatch) return
        last = end.account.id
      }
    },

    listAfter,
  }

  /** Up to `limit` accounts whose ids are greater. */
  async function listAfter(after: string, limit: number): Promise<MovedAccount[]> {
    const { rows } = await database.query<ExportedRow>({
      name: 'account-transfer-list',
      text: `select ${accountColumns}, password_hash as "passwordHash", ${passkeysOfAccount} as passkeys
               from accounts where id > $1 order by id limit $2`,
      values: [after, limit],
    })
    return rows.map((row) => {
      const { passwordHash, passkeys } = row
      return { account: asAccount(row), passwordHash, passkeys }
    })
  }
}

const hex = (text: string) => Buffer.from(text, 'base64url').toString('hex')

function accountRow({ account, passwordHash }: MovedAccount) {
  const { id, email, username, name, emailVerified = false } = account
  const { groups = [], attributes = {}, disabled, createdAt, updatedAt } = account
  return {
    ...{ id, email, username, name, emailVerified, passwordHash, groups, attributes, disabled },
    ...{ createdAt, updatedAt, profile: profileOf(account) },
  }
}

const passkeyRow = (account: string, passkey: MovedPasskey) => ({
  ...passkey,
  account,
  credentialId: hex(passkey.credentialId),
  publicKey: hex(passkey.publicKey),
})
