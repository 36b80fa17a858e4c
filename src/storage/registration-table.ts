import { hash } from 'node:crypto'
import type { BindingMethod } from '@holdfast/verify'
import type { ClientMetadata } from 'oidc-provider'

import type { Database } from './database.ts'
import { expiringRows } from './expiring-rows.ts'
import { isStorable } from './text.ts'

/** What a client that registers itself may be. */
export interface RegistrationPolicy {
  readonly grantTypes: readonly string[]
  readonly authMethods: readonly string[]
  readonly bindingMethods: readonly (BindingMethod | 'bearer')[]
  readonly scopes: readonly string[]
  /** Whether a client that names no binding gets bearer tokens, as OpenID Connect has it. */
  readonly conformant?: boolean
  /** Hosts that redirect URIs must be at; null for any. */
  readonly redirectHosts: readonly string[] | null
}

/** How a token may be used: with a proof by this key, by any key, or without a proof. */
export interface TokenBinding {
  readonly bearer: boolean
  /** RFC 7638 thumbprint; null for any key. */
  readonly jkt: string | null
}

/** An initial access token (RFC 7591 section 3) as administrators see it. */
export interface StoredInitialAccessToken extends TokenBinding {
  /** SHA-256 of the token, in hexadecimal: it names the token, and does not work as one. */
  readonly id: string
  readonly name: string
  readonly policy: RegistrationPolicy
  readonly uses: number
  readonly usesLeft: number
  readonly createdAt: Date
  readonly expiresAt: Date
}

export type NewInitialAccessToken = Omit<
  StoredInitialAccessToken,
  'id' | 'usesLeft' | 'createdAt' | 'expiresAt'
> & {
  /** Seconds from now on, by the clock of the database. */
  readonly lifetimeS: number
}

/** A client that registered itself, with what its registration access token allows. */
export interface StoredRegistration {
  readonly metadata: ClientMetadata
  readonly policy: RegistrationPolicy
  /** Null for a bearer token. */
  readonly jkt: string | null
}

export type RegistrationTable = ReturnType<typeof createRegistrationTable>

/** For how long a token that has expired is still listed. */
const keptAfterExpiry = '30 days'

/** Clients that nobody has invited or allowed yet, at most; and for how long they are there. */
const waitingLimit = 10_000
const waitingLifetime = '1 day'

const digest = (token: string) => hash('sha256', token, 'buffer')

const columns = `encode(id, 'hex') as id, name, policy, bearer, jkt, uses, uses_left as "usesLeft",
  created_at as "createdAt", expires_at as "expiresAt"`

/** The tables `initial_access_tokens` and `client_registrations`. */
export function createRegistrationTable(database: Database) {
  return {
    async insertInitialToken(
      token: string,
      { name, policy, bearer, jkt, uses, lifetimeS }: NewInitialAccessToken,
    ): Promise<StoredInitialAccessToken> {
      const { rows } = await database.query<StoredInitialAccessToken>({
        text: `insert into initial_access_tokens
                      (id, name, policy, bearer, jkt, uses, uses_left, expires_at)
               values ($1, $2, $3, $4, $5, $6, $6, now() + make_interval(secs => $7))
               returning ${columns}`,
        values: [digest(token), name, JSON.stringify(policy), bearer, jkt, uses, lifetimeS],
      })
      return rows[0] as StoredInitialAccessToken
    },

    async listInitialTokens(): Promise<StoredInitialAccessToken[]> {
      const { rows } = await database.query<StoredInitialAccessToken>({
        text: `select ${columns} from initial_access_tokens order by created_at, id`,
      })
      return rows
    },

    /** @returns the name of the token; undefined when there is none with this id. */
    async removeInitialToken(id: string): Promise<string | undefined> {
      const { rows } = await database.query<{ name: string }>({
        text: `delete from initial_access_tokens where id = decode($1, 'hex') returning name`,
        values: [id],
      })
      return rows[0]?.name
    },

    /** A token that can still be used. */
    async findInitialToken(token: string): Promise<StoredInitialAccessToken | undefined> {
      const { rows } = await database.query<StoredInitialAccessToken>({
        name: 'initial-access-token-find',
        text: `select ${columns} from initial_access_tokens
                where id = $1 and uses_left > 0 and expires_at > now()`,
        values: [digest(token)],
      })
      return rows[0]
    },

    /**
     * Uses up one use of the initial token and registers the client with it, or does neither. Of
     * any number of concurrent calls as many succeed as there are uses left.
     *
     * @returns false when the token could not be used any more.
     */
    async register({
      initialToken,
      registrationToken,
      jkt,
      metadata,
    }: {
      initialToken: string
      registrationToken: string
      jkt: string | null
      metadata: ClientMetadata
    }): Promise<boolean> {
      const { rowCount } = await database.query({
        name: 'client-register',
        text: `with used as (
                 update initial_access_tokens set uses_left = uses_left - 1
                  where id = $1 and uses_left > 0 and expires_at > now()
                 returning name, policy
               ), made as (
                 insert into clients (id, metadata) select $2, $3 from used returning id
               )
               insert into client_registrations (client_id, token_id, jkt, policy, came_by)
               select made.id, $4, $5, used.policy, used.name from made, used`,
        values: [
          digest(initialToken),
          metadata.client_id,
          JSON.stringify(metadata),
          digest(registrationToken),
          jkt,
        ],
      })
      return rowCount === 1
    },

    /**
     * Registers a client that nobody has invited. It is removed after a day, unless a user signs in
     * to it: of such clients there are so many at most.
     *
     * @returns false when there are too many.
     */
    async registerOpen({
      metadata,
      policy,
      unusedToken,
    }: {
      metadata: ClientMetadata
      policy: RegistrationPolicy
      /** Of a registration access token that is not handed out. */
      unusedToken: string
    }): Promise<boolean> {
      const { rowCount } = await database.query({
        name: 'client-register-open',
        text: `with made as (
                 insert into clients (id, metadata)
                 select $1, $2
                  where (select count(*)
                           from (select from client_registrations
                                  where expires_at is not null limit ${waitingLimit}) waiting)
                        < ${waitingLimit}
                 returning id
               )
               insert into client_registrations
                      (client_id, token_id, policy, came_by, expires_at)
               select id, $3, $4, 'open registration', now() + interval '${waitingLifetime}'
                 from made`,
        values: [
          metadata.client_id,
          JSON.stringify(metadata),
          digest(unusedToken),
          JSON.stringify(policy),
        ],
      })
      return rowCount === 1
    },

    /** Keeps a client that nobody has invited: a person has allowed it. */
    async keepOpen(clientId: string): Promise<void> {
      await database.query({
        name: 'client-registration-keep',
        text: `update client_registrations set expires_at = null
                where client_id = $1 and expires_at is not null`,
        values: [clientId],
      })
    },

    /** Clients that came without an invitation, and that nobody has signed in to. */
    /** A client goes with its registration: no person has allowed it, so that nothing else hangs on it. */
    unusedClients: expiringRows(database, {
      table: 'client_registrations',
      column: 'expires_at',
      before: 'now()',
      owner: { table: 'clients', key: 'id', by: 'client_id' },
    }),

    /** The registration that a token is for; undefined when the token is for another client. */
    async find(clientId: string, token: string): Promise<StoredRegistration | undefined> {
      if (!isStorable(clientId)) return undefined
      const { rows } = await database.query<StoredRegistration>({
        name: 'client-registration-find',
        text: `select metadata, policy, jkt
                 from client_registrations join clients on clients.id = client_id
                where client_id = $1 and token_id = $2`,
        values: [clientId, digest(token)],
      })
      return rows[0]
    },

    ...expiringRows(database, {
      table: 'initial_access_tokens',
      column: 'expires_at',
      before: `now() - interval '${keptAfterExpiry}'`,
    }),
  }
}
