import type { SigningAlgorithm } from '../config/signing-algorithms.ts'
import type { Database } from './database.ts'
import type { DetailsType } from './details-type-table.ts'
import { isStorable } from './text.ts'
import { createTtlCache, type TtlCacheOptions } from './ttl-cache.ts'

/** An API that access tokens can be made for (RFC 8707). */
export interface StoredResourceServer {
  /** The value of the `resource` parameter and of `aud`: an absolute URI without a fragment. */
  readonly identifier: string
  readonly name: string | null
  readonly scopes: readonly string[]
  /** Those of them that clients may ask for which nobody has let in. */
  readonly openScopes: readonly string[]
  /** Sentences by scope, shown at consent before the scope's name. */
  readonly scopeLabels: Readonly<Record<string, string>>
  /** What access tokens for it are signed by. */
  readonly signingAlg: SigningAlgorithm
  /** The types of authorization details (RFC 9396) that it understands. */
  readonly authorizationDetailsTypes: Readonly<Record<string, DetailsType>>
}

/** Tokens are signed by ES256 unless another algorithm is asked for. */
export type NewResourceServer = Omit<
  StoredResourceServer,
  'signingAlg' | 'scopeLabels' | 'openScopes' | 'authorizationDetailsTypes'
> &
  Partial<Pick<StoredResourceServer, 'signingAlg' | 'scopeLabels' | 'openScopes'>>

export type ResourceServerTable = ReturnType<typeof createResourceServerTable>

const columns = `identifier, name, scopes, open_scopes as "openScopes",
                      scope_labels as "scopeLabels",
                      signing_alg as "signingAlg",
                      (select coalesce(json_object_agg(type, definition order by type), '{}')
                         from authorization_details_types
                        where resource = identifier) as "authorizationDetailsTypes"`

/** The table `resource_servers`. */
export function createResourceServerTable(database: Database, clock: TtlCacheOptions = {}) {
  const memory = createTtlCache(async (identifier) => {
    if (!isStorable(identifier)) return undefined
    const { rows } = await database.query<StoredResourceServer>({
      name: 'resource-server-find',
      text: `select ${columns} from resource_servers where identifier = $1`,
      values: [identifier],
    })
    return rows[0]
  }, clock)
  const list = async (): Promise<StoredResourceServer[]> => {
    const { rows } = await database.query<StoredResourceServer>({
      name: 'resource-server-list',
      text: `select ${columns} from resource_servers order by identifier`,
    })
    return rows
  }
  const everything = createTtlCache(list, clock)
  const forget = (identifier: string) => {
    memory.invalidate(identifier)
    everything.invalidate('all')
  }
  return {
    /** A resource server that another process removed is found for a few seconds more. */
    find: memory.find,
    invalidate: memory.invalidate,

    list,

    /** All of them, as they were some seconds ago at most. */
    listRemembered: async (): Promise<readonly StoredResourceServer[]> =>
      (await everything.find('all')) ?? [],

    /** @returns false when the identifier is taken. */
    async insert({
      identifier,
      name,
      scopes,
      openScopes = [],
      scopeLabels = {},
      signingAlg = 'ES256',
    }: NewResourceServer): Promise<boolean> {
      const { rowCount } = await database.query({
        text: `insert into resource_servers
                      (identifier, name, scopes, signing_alg, scope_labels, open_scopes)
               values ($1, $2, $3, $4, $5, $6)
               on conflict on constraint resource_servers_pkey do nothing`,
        values: [identifier, name, scopes, signingAlg, scopeLabels, openScopes],
      })
      forget(identifier)
      return rowCount === 1
    },

    /** @returns false when there is no such resource server. */
    async remove(identifier: string): Promise<boolean> {
      if (!isStorable(identifier)) return false
      const { rowCount } = await database.query({
        text: 'delete from resource_servers where identifier = $1',
        values: [identifier],
      })
      forget(identifier)
      return rowCount === 1
    },
  }
}
