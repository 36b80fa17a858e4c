import type { Database } from './database.ts'

/** A sign-in in a browser. The id names it to administrators, and is no cookie. */
export interface StoredSession {
  readonly id: string
  readonly account: string
  readonly signedInAt: Date
  readonly expiresAt: Date
  readonly clients: readonly string[]
}

/** What an account has granted to a client, and with it every token issued from that. */
export interface StoredGrant {
  readonly id: string
  readonly account: string
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
}

interface SessionPayload {
  accountId: string
  loginTs?: number
  iat: number
  authorizations?: Record<string, unknown>
}

interface GrantPayload {
  accountId: string
  clientId: string
  iat: number
  openid?: { scope?: string }
  resources?: Record<string, string>
}

export type IssuedTable = ReturnType<typeof createIssuedTable>

/** What administrators see of the table `artifacts`. Ids are the digests that it is keyed by. */
export function createIssuedTable(database: Database) {
  async function list<Payload>(kind: string, filter: Readonly<Record<string, string | undefined>>) {
    const names = Object.keys(filter).filter((name) => filter[name] !== undefined)
    const { rows } = await database.query<Row<Payload>>({
      text: `select encode(id, 'hex') as id, payload, expires_at as "expiresAt" from artifacts
              where kind = $1 and expires_at > now() and payload->>'accountId' is not null
                and not exists (
                      select from unnest($2::text[], $3::text[]) as wanted (name, value)
                       where payload->>wanted.name is distinct from wanted.value)
              order by expires_at, id`,
      values: [kind, names, names.map((name) => filter[name])],
    })
    return rows
  }

  return {
    async listSessions({ account }: { account?: string | undefined }): Promise<StoredSession[]> {
      const rows = await list<SessionPayload>('Session', { accountId: account })
      return rows.map(({ id, payload, expiresAt }) => ({
        id,
        account: payload.accountId,
        signedInAt: new Date((payload.loginTs ?? payload.iat) * 1000),
        expiresAt,
        clients: Object.keys(payload.authorizations ?? {}),
      }))
    },

    async listGrants({
      account,
      client,
    }: {
      account?: string | undefined
      client?: string | undefined
    }): Promise<StoredGrant[]> {
      const rows = await list<GrantPayload>('Grant', { accountId: account, clientId: client })
      return rows.map(({ id, payload, expiresAt }) => ({
        id,
        account: payload.accountId,
        client: payload.clientId,
        grantedAt: new Date(payload.iat * 1000),
        expiresAt,
        scopes: payload.openid?.scope?.split(' ') ?? [],
        resources: payload.resources ?? {},
      }))
    },

    /** @returns whose session was ended; undefined when there is no such session. */
    async endSession(id: string): Promise<{ account: string } | undefined> {
      const { rows } = await database.query<{ account: string }>({
        text: `delete from artifacts where kind = 'Session' and id = decode($1, 'hex')
               returning payload->>'accountId' as account`,
        values: [id],
      })
      return rows[0]
    },

    /**
     * Removes a grant: the engine refuses every code, refresh token and opaque access token whose
     * grant is gone. JWT access tokens end with their `exp`.
     *
     * @returns whose grant it was; undefined when there is no such grant.
     */
    async revokeGrant(id: string): Promise<{ account: string; client: string } | undefined> {
      const { rows } = await database.query<{ account: string; client: string }>({
        text: `delete from artifacts where kind = 'Grant' and id = decode($1, 'hex')
               returning payload->>'accountId' as account, payload->>'clientId' as client`,
        values: [id],
      })
      return rows[0]
    },
  }
}
