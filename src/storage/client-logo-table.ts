import type { Database } from './database.ts'
import { isStorable } from './text.ts'
import { createTtlCache, type TtlCacheOptions } from './ttl-cache.ts'

export interface StoredLogo {
  readonly digest: string
  readonly type: string
  readonly bytes: Uint8Array
}

export type ClientLogoTable = ReturnType<typeof createClientLogoTable>

/** The table `client_logos`, and the member `logo` of the metadata of clients. */
export function createClientLogoTable(database: Database, clock: TtlCacheOptions = {}) {
  const memory = createTtlCache(async (digest) => {
    if (!isStorable(digest)) return undefined
    const { rows } = await database.query<StoredLogo>({
      name: 'client-logo-find',
      text: 'select digest, type, bytes from client_logos where digest = $1 limit 1',
      values: [digest],
    })
    return rows[0]
  }, clock)
  return {
    find: memory.find,

    /** @returns false when there is no such client. */
    async set(clientId: string, { digest, type, bytes }: StoredLogo): Promise<boolean> {
      if (!isStorable(clientId)) return false
      const { rowCount } = await database.query({
        text: `with client as (
                 update clients set metadata = metadata || jsonb_build_object('logo', $2::text)
                  where id = $1 returning id
               ), stored as (
                 insert into client_logos (client_id, digest, type, bytes)
                 select id, $2, $3, $4 from client
                 on conflict on constraint client_logos_pkey do update
                    set digest = excluded.digest, type = excluded.type, bytes = excluded.bytes
               )
               select from client`,
        values: [clientId, digest, type, Buffer.from(bytes)],
      })
      return rowCount === 1
    },

    /** @returns false when there is no such client, or it has no logo. */
    async remove(clientId: string): Promise<boolean> {
      if (!isStorable(clientId)) return false
      const { rowCount } = await database.query({
        text: `with client as (
                 update clients set metadata = metadata - 'logo' where id = $1 and metadata ? 'logo'
                 returning id
               ), removed as (
                 delete from client_logos using client where client_id = client.id
               )
               select from client`,
        values: [clientId],
      })
      return rowCount === 1
    },
  }
}
