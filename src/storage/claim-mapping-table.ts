import type { Database } from './database.ts'
import { createTtlCache, type TtlCacheOptions } from './ttl-cache.ts'

/** A claim that an administrator adds: of an attribute of the account, or always the same value. */
export interface ClaimMapping {
  readonly claim: string
  /** With which it is sent: one of OpenID Connect, or of an API. */
  readonly scope: string
  /** The client that it is for; undefined for all. */
  readonly client?: string | undefined
  readonly attribute?: string | undefined
  readonly value?: unknown
}

export type ClaimMappingTable = ReturnType<typeof createClaimMappingTable>

const all = 'all'

/** The table `claim_mappings`, of one row. */
export function createClaimMappingTable(database: Database, clock: TtlCacheOptions = {}) {
  const memory = createTtlCache(async () => {
    const { rows } = await database.query<{ mappings: ClaimMapping[] }>({
      name: 'claim-mappings-find',
      text: 'select mappings from claim_mappings',
    })
    return rows[0]?.mappings ?? []
  }, clock)
  return {
    /** What another process changed is found after a few seconds. */
    async list(): Promise<readonly ClaimMapping[]> {
      return (await memory.find(all)) ?? []
    },

    /** Replaces all of them. */
    async replace(mappings: readonly ClaimMapping[]): Promise<void> {
      await database.query({
        text: `insert into claim_mappings (mappings) values ($1)
               on conflict on constraint claim_mappings_pkey do update set mappings = excluded.mappings`,
        values: [JSON.stringify(mappings)],
      })
      memory.invalidate(all)
    },
  }
}
