import type { ClientMetadata } from 'oidc-provider'
import type { Database } from './database.ts'
import { isStorable } from './text.ts'
import { createTtlCache, type TtlCacheOptions } from './ttl-cache.ts'

export interface StoredClient {
  readonly metadata: ClientMetadata
  readonly createdAt: Date
}

export type ClientTable = ReturnType<typeof createClientTable>

/** The table `clients`. */
export function createClientTable(database: Database, clock: TtlCacheOptions = {}) {
  const memory = createTtlCache(async (id) => {
    if (!isStorable(id)) return undefined
    const { rows } = await database.query<{ metadata: ClientMetadata }>({
      name: 'client-find',
      text: 'select metadata from clients where id = $1',
      values: [id],
    })
    return rows[0]?.metadata
  }, clock)
  return {
    /** A client that another process removed is found for a few seconds more. */
    find: memory.find,

    /** Reads the client anew: its metadata was changed by a statement of another table. */
    forget: memory.invalidate,

    async list(): Promise<StoredClient[]> {
      const { rows } = await database.query<StoredClient>({
        text: 'select metadata, created_at as "createdAt" from clients order by created_at, id',
      })
      return rows
    },

    /** Redirect URIs of the clients that may have sessions of their own on the keys of ours. */
    async listFederatedRedirectUris(limit: number): Promise<string[]> {
      const { rows } = await database.query<{ uri: string }>({
        name: 'client-federated-redirect-uris',
        text: `select distinct uri
                 from clients
                cross join lateral jsonb_array_elements_text(metadata->'redirect_uris') as uri
                where metadata->'session_policy'->>'federation' = 'true'
                order by uri limit $1`,
        values: [limit],
      })
      return rows.map(({ uri }) => uri)
    },

    /** Whether a client may ask people by the backchannel (CIBA). */
    async hasCiba(): Promise<boolean> {
      const { rows } = await database.query<{ found: boolean }>({
        name: 'client-has-ciba',
        text: `select exists (
                 select from clients
                  where metadata->'grant_types' ? 'urn:openid:params:grant-type:ciba') as found`,
      })
      return rows[0]?.found === true
    },

    /** @returns false when the client_id is taken. */
    async insert(metadata: ClientMetadata): Promise<boolean> {
      const { rowCount } = await database.query({
        text: `insert into clients (id, metadata) values ($1, $2)
               on conflict on constraint clients_pkey do nothing`,
        values: [metadata.client_id, JSON.stringify(metadata)],
      })
      return rowCount === 1
    },

    /**
     * Replaces the metadata of a client, if it is still what it was when it was read.
     *
     * @returns false when someone has changed or removed the client since.
     */
    async replace(before: ClientMetadata, after: ClientMetadata): Promise<boolean> {
      const { rowCount } = await database.query({
        name: 'client-replace',
        text: 'update clients set metadata = $3 where id = $1 and metadata = $2::jsonb',
        values: [before.client_id, JSON.stringify(before), JSON.stringify(after)],
      })
      memory.invalidate(before.client_id)
      return rowCount === 1
    },

    /** @returns false when there is no such client, or it does not authenticate by a secret. */
    async replaceSecret(id: string, stored: string): Promise<boolean> {
      if (!isStorable(id)) return false
      const { rowCount } = await database.query({
        text: `update clients set metadata = metadata || jsonb_build_object('client_secret', $2::text)
                where id = $1
                  and coalesce(metadata->>'token_endpoint_auth_method', 'client_secret_basic')
                      in ('client_secret_basic', 'client_secret_post')`,
        values: [id, stored],
      })
      memory.invalidate(id)
      return rowCount === 1
    },

    /**
     * Removes a client with everything that was issued to it and granted to it. What a concurrent
     * request still writes is of a client that is no longer there (see `isLive`), also when the
     * client_id is given to another client later.
     *
     * @returns false when there is no such client.
     */
    async remove(id: string): Promise<boolean> {
      if (!isStorable(id)) return false
      const { rowCount } = await database.query({
        name: 'client-remove',
        // Locks are taken in the order in which token requests take them. Grants without a client_id
        // are of the previous release; the tokens of such a grant end with it.
        text: `with removed as (
                 delete from clients where id = $1 returning id
               ), locked as (
                 select kind, artifacts.id from artifacts, removed
                  where client_id = removed.id
                  order by kind, artifacts.id for update of artifacts
               ), ended as (
                 delete from artifacts using locked
                  where artifacts.kind = locked.kind and artifacts.id = locked.id
               ), grants as (
                 delete from artifacts using removed
                  where kind = 'Grant' and client_id is null
                    and payload->>'clientId' = removed.id
               ), sessions as (
                 update browser_sessions set authorizations = authorizations - removed.id
                   from removed where authorizations ? removed.id
               )
               select from removed`,
        values: [id],
      })
      memory.invalidate(id)
      return rowCount === 1
    },
  }
}
