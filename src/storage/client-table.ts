import type { ClientMetadata } from 'oidc-provider'
import type { Database } from './database.ts'
import { createShortMemory, type ShortMemoryOptions } from './short-memory.ts'
import { isStorable } from './text.ts'

export interface StoredClient {
  readonly metadata: ClientMetadata
  readonly createdAt: Date
}

export type ClientTable = ReturnType<typeof createClientTable>

/** The table `clients`. */
export function createClientTable(database: Database, clock: ShortMemoryOptions = {}) {
  const memory = createShortMemory(async (id) => {
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
     * @returns false when somebody has changed or removed the client since.
     */
    async replace(before: ClientMetadata, after: ClientMetadata): Promise<boolean> {
      const { rowCount } = await database.query({
        name: 'client-replace',
        text: 'update clients set metadata = $3 where id = $1 and metadata = $2::jsonb',
        values: [before.client_id, JSON.stringify(before), JSON.stringify(after)],
      })
      memory.forget(before.client_id)
      return rowCount === 1
    },

    /** @returns false when there is no such client, or it does not authenticate by a secret. */
    async replaceSecret(id: string, stored: string): Promise<boolean> {
      if (!isStorable(id)) return false
      const { rowCount } = await database.query({
        text: `update clients set metadata = metadata || jsonb_build_object('client_secret', $2::text)
                where id = $1 and metadata->>'token_endpoint_auth_method' = 'client_secret_basic'`,
        values: [id, stored],
      })
      memory.forget(id)
      return rowCount === 1
    },

    /** @returns false when there is no such client. */
    async remove(id: string): Promise<boolean> {
      if (!isStorable(id)) return false
      const { rowCount } = await database.query({
        text: 'delete from clients where id = $1',
        values: [id],
      })
      memory.forget(id)
      return rowCount === 1
    },
  }
}
