import type { Account } from './account-store.ts'
import type { Database } from './database.ts'
import { expiringRows } from './expiring-rows.ts'

/** An invitation as administrators see it. */
export interface StoredInvitation {
  /** SHA-256 of the code, in hexadecimal: it names the invitation, and does not work as its code. */
  readonly id: string
  readonly name: string
  /** Of every account that is made by it. */
  readonly groups: readonly string[]
  readonly uses: number
  readonly usesLeft: number
  readonly createdAt: Date
  readonly expiresAt: Date
}

export type NewInvitation = Pick<StoredInvitation, 'name' | 'groups' | 'uses'> & {
  /** Seconds from now on, by the clock of the database. */
  readonly lifetimeS: number
}

/** An account that someone has asked for. */
export interface OpenSignUp {
  readonly email: string
  /** The id of the invitation, or null. */
  readonly invitation: string | null
}

/** What came of an account that was asked for. */
export type SignUpOutcome = 'made' | 'used up' | 'has account'

export type SignUpTable = ReturnType<typeof createSignUpTable>

/** For how long an invitation that has expired is still listed. */
const keptAfterExpiry = '30 days'

const columns = `encode(digest, 'hex') as id, name, groups, uses, uses_left as "usesLeft",
  created_at as "createdAt", expires_at as "expiresAt"`

/** The tables `invitations` and `sign_ups`. */
export function createSignUpTable(database: Database) {
  return {
    async insertInvitation(
      digest: Buffer,
      { name, groups, uses, lifetimeS }: NewInvitation,
    ): Promise<StoredInvitation> {
      const { rows } = await database.query<StoredInvitation>({
        text: `insert into invitations (digest, name, groups, uses, uses_left, expires_at)
               values ($1, $2, $3, $4, $4, now() + make_interval(secs => $5))
               returning ${columns}`,
        values: [digest, name, groups, uses, lifetimeS],
      })
      return rows[0] as StoredInvitation
    },

    async listInvitations(): Promise<StoredInvitation[]> {
      const { rows } = await database.query<StoredInvitation>({
        text: `select ${columns} from invitations order by created_at, digest`,
      })
      return rows
    },

    /**
     * Removes an invitation, with the accounts that are asked for by it and not made yet.
     *
     * @returns its name; undefined when there is none with this id.
     */
    async removeInvitation(id: string): Promise<string | undefined> {
      const { rows } = await database.query<{ name: string }>({
        text: `delete from invitations where digest = decode($1, 'hex') returning name`,
        values: [id],
      })
      return rows[0]?.name
    },

    /** The id of an invitation that can still be used. */
    async findInvitation(digest: Buffer): Promise<string | undefined> {
      const { rows } = await database.query<{ id: string }>({
        name: 'invitation-find',
        text: `select encode(digest, 'hex') as id from invitations
                where digest = $1 and uses_left > 0 and expires_at > now()`,
        values: [digest],
      })
      return rows[0]?.id
    },

    /**
     * Keeps what someone has asked for, until they confirm the address.
     *
     * @returns when it expires; undefined where the invitation is gone.
     */
    async make(
      digest: Buffer,
      { email, invitation }: OpenSignUp,
      lifetimeS: number,
    ): Promise<Date | undefined> {
      const { rows } = await database.query<{ expires_at: Date }>({
        name: 'sign-up-make',
        text: `insert into sign_ups (digest, email, invitation, expires_at)
               select $1, $2, decode($3, 'hex'), now() + $4 * interval '1 second'
                where $3::text is null
                   or exists (select from invitations where digest = decode($3, 'hex'))
               returning expires_at`,
        values: [digest, email, invitation, lifetimeS],
      })
      return rows[0]?.expires_at
    },

    /** What can be confirmed; nothing is used up. */
    async find(digest: Buffer): Promise<OpenSignUp | undefined> {
      const { rows } = await database.query<OpenSignUp>({
        name: 'sign-up-find',
        text: `select email, encode(invitation, 'hex') as invitation from sign_ups
                where digest = $1 and expires_at > now()`,
        values: [digest],
      })
      return rows[0]
    },

    /**
     * Makes the account that was asked for, with a verified address, the groups of the invitation
     * and a one-time link in which its person sets how to sign in. A use of the invitation is counted
     * with that, or nothing is made: of any number of calls as many succeed as there are uses left,
     * and of those with one digest one.
     *
     * @returns undefined where nothing can be confirmed by this digest any more.
     */
    async complete(
      digest: Buffer,
      {
        account,
        passwordHash,
        link,
      }: {
        account: Pick<Account, 'id' | 'name'>
        passwordHash: string
        link: { readonly digest: Buffer; readonly lifetimeS: number }
      },
    ): Promise<SignUpOutcome | undefined> {
      // The invitation is locked first, as by its removal.
      const { rows } = await database.query<{ outcome: SignUpOutcome | null }>({
        text: `with invited as materialized (
                 select invitations.digest, invitations.groups
                   from invitations join sign_ups on invitation = invitations.digest
                  where sign_ups.digest = $1 and uses_left > 0 and invitations.expires_at > now()
                    for update of invitations
               ), asked as (
                 delete from sign_ups using (select count(*) from invited) as locked
                  where digest = $1 and expires_at > now()
                 returning email, invitation
               ), made as (
                 insert into accounts (id, email, name, email_verified, password_hash, groups)
                 select $2, email, $3, true, $4, coalesce(groups, '{}')
                   from asked left join invited on invitation = invited.digest
                  where invitation is null or invited.digest is not null
                 on conflict do nothing
                 returning id
               ), counted as (
                 update invitations set uses_left = uses_left - 1
                   from made, invited where invitations.digest = invited.digest
               ), linked as (
                 insert into account_links (account_id, digest, expires_at)
                 select id, $5::bytea, now() + $6 * interval '1 second' from made
               )
               select case when exists (select from made) then 'made'
                           when invitation is not null and not exists (select from invited)
                             then 'used up'
                           else 'has account' end as outcome
                 from asked`,
        values: [
          digest,
          account.id,
          account.name ?? null,
          passwordHash,
          link.digest,
          link.lifetimeS,
        ],
      })
      return rows[0]?.outcome ?? undefined
    },

    ...expiringRows(database, { table: 'sign_ups', column: 'expires_at', before: 'now()' }),
    invitations: expiringRows(database, {
      table: 'invitations',
      column: 'expires_at',
      before: `now() - interval '${keptAfterExpiry}'`,
    }),
  }
}
