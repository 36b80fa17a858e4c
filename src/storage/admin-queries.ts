import type { Database } from './database.ts'
import { isStorable } from './text.ts'

/** A sign-in in a browser. The id is its uid, which names it and is no cookie. */
export interface StoredSession {
  readonly id: string
  readonly account: string
  /** Of the account; null when there is none any more. */
  readonly email: string | null
  readonly signedInAt: Date
  readonly expiresAt: Date
  readonly clients: readonly string[]
  readonly userAgent: string
  readonly address: string
  /** What it is bound to; null for a session whose cookie is all there is to it. */
  readonly binding: 'dbsc' | 'token-binding' | 'page-key' | null
}

/** What an account has granted to a client, and with it every token issued from that. */
export interface StoredGrant {
  readonly id: string
  readonly account: string
  /** Of the account; null when there is none any more. */
  readonly email: string | null
  readonly client: string
  readonly grantedAt: Date
  readonly expiresAt: Date
  readonly scopes: readonly string[]
  readonly resources: Readonly<Record<string, string>>
}

interface Row<Payload> {
  id: string
  payload: Payload
  expiresAt: Date
  email: string | null
}

interface GrantPayload {
  accountId: string
  clientId: string
  iat: number
  openid?: { scope?: string }
  resources?: Record<string, string>
}

export type AdminQueries = ReturnType<typeof createAdminQueries>

/**
 * What administrators see of sign-ins and grants. The ids of grants are the digests that the table
 * `artifacts` is keyed by.
 */
export function createAdminQueries(database: Database) {
  async function list<Payload>(kind: string, filter: Readonly<Record<string, string | undefined>>) {
    const names = Object.keys(filter).filter((name) => filter[name] !== undefined)
    const { rows } = await database.query<Row<Payload>>({
      text: `select encode(artifacts.id, 'hex') as id, payload, expires_at as "expiresAt", email
               from artifacts left join accounts on accounts.id = payload->>'accountId'
              where kind = $1 and expires_at > now() and payload->>'accountId' is not null
                and not exists (
                      select from unnest($2::text[], $3::text[]) as wanted (name, value)
                       where payload->>wanted.name is distinct from wanted.value)
              order by expires_at, artifacts.id`,
      values: [kind, names, names.map((name) => filter[name])],
    })
    return rows
  }

  return {
    async listSessions({ account }: { account?: string | undefined }): Promise<StoredSession[]> {
      const { rows } = await database.query<StoredSession>({
        text: `select uid as id, account_id as account, email, signed_in_at as "signedInAt",
                      expires_at as "expiresAt", user_agent as "userAgent", address,
                      coalesce(method, case when tbh is not null then 'token-binding' end) as binding,
                      array(select jsonb_object_keys(authorizations) order by 1) as clients
                 from browser_sessions left join session_bindings using (uid)
                      left join accounts on accounts.id = account_id
                where ended_at is null and expires_at > now()
                  and ($1::text is null or account_id = $1)
                order by signed_in_at, uid`,
        values: [account],
      })
      return rows
    },

    async listGrants({
      account,
      client,
    }: {
      account?: string | undefined
      client?: string | undefined
    }): Promise<StoredGrant[]> {
      const rows = await list<GrantPayload>('Grant', { accountId: account, clientId: client })
      return rows.map(({ id, payload, expiresAt, email }) => ({
        id,
        account: payload.accountId,
        email,
        client: payload.clientId,
        grantedAt: new Date(payload.iat * 1000),
        expiresAt,
        scopes: payload.openid?.scope?.split(' ') ?? [],
        resources: payload.resources ?? {},
      }))
    },

    /**
     * Ends a session by its id: the engine's own copy of it counts for nothing then.
     *
     * @returns whose session was ended; undefined when there is no such session.
     */
    async endSession(id: string): Promise<{ account: string } | undefined> {
      if (!isStorable(id)) return undefined
      const { rows } = await database.query<{ account: string }>({
        text: `with ended as (
                 update browser_sessions set ended_at = now()
                  where uid = $1 and ended_at is null and expires_at > now()
                 returning uid, account_id
               ), reported as (
                 insert into security_events (kind, account_id, session_uid)
                 select 'session_ended', account_id, uid from ended
               )
               select account_id as account from ended`,
        values: [id],
      })
      return rows[0]
    },

    /**
     * Removes a grant: the engine refuses every code, refresh token and opaque access token whose
     * grant is gone. JWT access tokens end with their `exp`. Sessions leave the client, which counts as
     * a logout.
     *
     * @returns whose grant it was; undefined when there is no such grant.
     */
    async revokeGrant(id: string): Promise<{ account: string; client: string } | undefined> {
      const { rows } = await database.query<{ account: string; client: string }>({
        text: `with removed as (
                 delete from artifacts where kind = 'Grant' and id = decode($1, 'hex')
                 returning id, payload->>'accountId' as account, payload->>'clientId' as client
               ), left_clients as (
                 update browser_sessions set authorizations = authorizations - client
                   from removed
                  where account_id = account and ended_at is null
                    and sha256(convert_to(authorizations->client->>'grantId', 'UTF8')) = removed.id
               )
               select account, client from removed`,
        values: [id],
      })
      return rows[0]
    },

    /** Removes all grants of an account, as {@link revokeGrant} does with one; how many. */
    async revokeGrantsOf(account: string): Promise<number> {
      const { rowCount } = await database.query({
        text: `delete from artifacts where kind = 'Grant' and payload->>'accountId' = $1`,
        values: [account],
      })
      return rowCount
    },
  }
}
