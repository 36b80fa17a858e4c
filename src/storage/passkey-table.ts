import { useLink } from './account-link-table.ts'
import type { Account, OwnChange } from './account-store.ts'
import { type AccountRow, accountColumns, asAccount, endEverything } from './account-table.ts'
import type { Database } from './database.ts'
import { type ReplayEntry, recordEntries } from './replay-table.ts'
import { isStorable } from './text.ts'

export interface Passkey {
  /** Names it on our pages and in the admin API. */
  readonly id: string
  readonly accountId: string
  /** Names it to browsers; base64url. */
  readonly credentialId: string
  readonly transports: readonly string[]
  /** The model of the authenticator, as it says itself; all zero where it does not. */
  readonly aaguid: string
  /** Whether a root of the operator has certified the model. */
  readonly attested: boolean
  /** The person's own choice. */
  readonly name: string
  /** Whether it may be copied to other devices of the person, and whether it was. */
  readonly backupEligible: boolean
  readonly backedUp: boolean
  readonly createdAt: Date
  readonly lastUsedAt: Date | null
}

export interface NewPasskey
  extends Pick<
    Passkey,
    | 'accountId'
    | 'credentialId'
    | 'transports'
    | 'aaguid'
    | 'attested'
    | 'name'
    | 'backupEligible'
    | 'backedUp'
  > {
  readonly publicKey: Uint8Array
  readonly signCount: number
}

/** A passkey with what checks its signatures, and whose it is. */
export interface FoundPasskey {
  readonly passkey: Passkey
  readonly publicKey: Uint8Array<ArrayBuffer>
  readonly account: Account
}

/** What became of an assertion whose signature is right. */
export type PasskeyUse = 'used' | 'replayed' | 'counter' | 'gone'

/** Passkeys that one account may have. */
export const mostPasskeys = 20

const columns = `passkeys.id, account_id as "accountId",
  translate(encode(credential_id, 'base64'), E'+/=\\n', '-_') as "credentialId",
  transports, aaguid, attested, passkeys.name, backup_eligible as "backupEligible", backed_up as "backedUp",
  passkeys.created_at as "createdAt", last_used_at as "lastUsedAt"`

interface FoundRow extends Passkey {
  readonly publicKey: Buffer<ArrayBuffer>
  readonly account: AccountRow | null
}

const uuid = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/

const reported = (kind: string, from: string) => `
  insert into security_events (kind, account_id, session_uid, address, user_agent)
  select '${kind}', account_id, $3::text, $4::text, $5::text from ${from}`

/** Adds a passkey to the account in `owner`, which has locked it, by a challenge that is used up. */
const adding = `fresh as (
    ${recordEntries('$1', '$2', 'exists (select from owner)')}
  ), added as (
    insert into passkeys (account_id, credential_id, public_key, sign_count, transports,
                          aaguid, name, backup_eligible, backed_up, attested)
    select owner.id, $7::bytea, $8::bytea, $9::bigint, $10::text[], $11::uuid, $12::text,
           $13::boolean, $14::boolean, $16::boolean
      from owner, fresh
     where (select count(*) from passkeys where account_id = owner.id) < $15
    on conflict on constraint passkeys_credential_id_key do nothing
    returning id, account_id
  ), reported as (${reported('passkey_added', 'added')})`

const valuesOfNew = (passkey: NewPasskey, challenge: ReplayEntry, by: OwnChange) => [
  [challenge.id],
  [challenge.expiresAt],
  ...ofChange(by),
  passkey.accountId,
  Buffer.from(passkey.credentialId, 'base64url'),
  Buffer.from(passkey.publicKey),
  passkey.signCount,
  passkey.transports,
  passkey.aaguid,
  passkey.name,
  passkey.backupEligible,
  passkey.backedUp,
  mostPasskeys,
  passkey.attested,
]

export type PasskeyTable = ReturnType<typeof createPasskeyTable>

/** The table `passkeys`. */
export function createPasskeyTable(database: Database) {
  return {
    /** A passkey, unless its account is disabled. */
    async find(credentialId: string): Promise<FoundPasskey | 'disabled' | undefined> {
      const { rows } = await database.query<FoundRow>({
        name: 'passkey-find',
        text: `select ${columns}, public_key as "publicKey", to_json(account) as account
                 from passkeys
                 left join lateral (select ${accountColumns} from accounts
                                where accounts.id = account_id and disabled_at is null) account on true
                where credential_id = $1`,
        values: [Buffer.from(credentialId, 'base64url')],
      })
      const [row] = rows
      if (!row) return undefined
      const { publicKey, account, ...passkey } = row
      if (!account) return 'disabled'
      return { passkey, publicKey: new Uint8Array(publicKey), account: asAccount(account) }
    },

    /** The oldest first. */
    async listOf(accountId: string): Promise<Passkey[]> {
      const { rows } = await database.query<Passkey>({
        name: 'passkey-list',
        text: `select ${columns} from passkeys where account_id = $1 order by created_at, id`,
        values: [accountId],
      })
      return rows
    },

    /** Whether an account has one: then its password may count for less. */
    async isThere(accountId: string): Promise<boolean> {
      const { rowCount } = await database.query({
        name: 'passkey-is-there',
        text: 'select from passkeys where account_id = $1 limit 1',
        values: [accountId],
      })
      return rowCount > 0
    },

    /**
     * Uses a passkey by an assertion whose signature is right: of any number of calls with one
     * challenge, one succeeds. A counter that does not rise is refused, but for authenticators that
     * have none and always say 0.
     */
    async use(id: string, { challenge, signCount, backedUp }: UseOfPasskey): Promise<PasskeyUse> {
      const { rows } = await database.query<{ found: boolean; fresh: boolean; used: boolean }>({
        name: 'passkey-use',
        text: `with found as materialized (
                 select passkeys.id, sign_count from passkeys
                   join accounts on accounts.id = account_id and disabled_at is null
                  where passkeys.id = $1 for update of passkeys
               ), fresh as (
                 ${recordEntries('$2', '$3', 'exists (select from found)')}
               ), used as (
                 update passkeys set sign_count = $4, backed_up = $5, last_used_at = now()
                   from found
                  where passkeys.id = found.id and exists (select from fresh)
                    and ($4 > found.sign_count or ($4 = 0 and found.sign_count = 0))
                 returning true
               )
               select exists (select from found) as found, exists (select from fresh) as fresh,
                      exists (select from used) as used`,
        values: [id, [challenge.id], [challenge.expiresAt], signCount, backedUp],
      })
      const { found, fresh, used } = rows[0] ?? {}
      if (!found) return 'gone'
      if (!fresh) return 'replayed'
      return used ? 'used' : 'counter'
    },

    /**
     * Adds a passkey by a challenge that is used up with it, and tells its owner.
     *
     * @returns its id; undefined where the challenge was used, the credential is known, or the
     * account has as many as it may have.
     */
    async add(
      passkey: NewPasskey,
      challenge: ReplayEntry,
      by: OwnChange,
    ): Promise<string | undefined> {
      const { rows } = await database.query<{ id: string }>({
        name: 'passkey-add',
        text: `with owner as materialized (
                 select id from accounts where id = $6 and disabled_at is null for update
               ), ${adding}
               select id from added`,
        values: valuesOfNew(passkey, challenge, by),
      })
      return rows[0]?.id
    },

    /**
     * Adds a passkey by a one-time link, which is used up with the challenge. All sessions and grants
     * of the account end.
     *
     * @param link the digest of its token.
     * @returns its id, or undefined as {@link add}; also where the link cannot be used.
     */
    async addByLink(
      passkey: NewPasskey,
      challenge: ReplayEntry,
      { link, ...by }: OwnChange & { readonly link: Buffer },
    ): Promise<string | undefined> {
      const hasRoom = (account: string) =>
        `(select count(*) from passkeys where passkeys.account_id = ${account}) < $15`
      const { rows } = await database.query<{ id: string }>({
        text: `with ${useLink('$17', hasRoom)}, owner as materialized (
                 select accounts.id from accounts join used on used.id = accounts.id
                  where accounts.id = $6 for update of accounts
               ), ${adding}, ${endEverything('owner')}, verified as (
                 update accounts set email_verified = true from used
                  where used.mailed and accounts.id in (select account_id from added)
               )
               select id from added`,
        values: [...valuesOfNew(passkey, challenge, by), link],
      })
      return rows[0]?.id
    },

    /** @returns whether the account has such a passkey. */
    async rename(id: string, name: string, by: OwnChange): Promise<boolean> {
      if (!uuid.test(id) || !isStorable(name)) return false
      const { rowCount } = await database.query({
        name: 'passkey-rename',
        text: `with renamed as (
                 update passkeys set name = $6 where id = $1 and account_id = $2
                 returning account_id
               ), reported as (${reported('passkey_renamed', 'renamed')})
               select from renamed`,
        values: [id, by.accountId, ...ofChange(by), name],
      })
      return rowCount === 1
    },

    /**
     * Removes a passkey, and ends all sessions of the account but the one that removes it: someone
     * else may have signed in with the passkey.
     *
     * @param least how many the account must keep.
     * @returns whether the account had such a passkey, and enough of them.
     */
    async remove(id: string, least: number, by: OwnChange): Promise<boolean> {
      if (!uuid.test(id)) return false
      const { rowCount } = await database.query({
        name: 'passkey-remove',
        text: `with locked as materialized (
                 select id from passkeys where account_id = $2 order by id for update
               ), removed as (
                 delete from passkeys
                  where id = $1 and account_id = $2 and (select count(*) from locked) > $6::int
                 returning account_id
               ), ended as (
                 update browser_sessions set ended_at = now()
                  where account_id in (select account_id from removed) and ended_at is null
                    and uid is distinct from $3
               ), reported as (${reported('passkey_removed', 'removed')})
               select from removed`,
        values: [id, by.accountId, ...ofChange(by), least],
      })
      return rowCount === 1
    },
  }
}

interface UseOfPasskey {
  /** As an entry that may be recorded once. */
  readonly challenge: ReplayEntry
  readonly signCount: number
  readonly backedUp: boolean
}

const ofChange = ({ sessionUid, address, userAgent }: OwnChange) => [sessionUid, address, userAgent]
