import type { Database } from './database.ts'
import { isStorable } from './text.ts'
import { createTtlCache, type TtlCacheOptions } from './ttl-cache.ts'

/** What a member of authorization details may be, and what people read in place of its name. */
export interface DetailsMember {
  readonly kind: 'string' | 'integer' | 'boolean' | 'object'
  /** Shown at consent; undefined for the name of the member. */
  readonly label?: string | undefined
  /** Whether the value is a list of those. */
  readonly list?: boolean | undefined
  readonly required?: boolean | undefined
  /** The only strings that there are. */
  readonly values?: readonly string[] | undefined
  /** Characters of a string. */
  readonly maxLength?: number | undefined
  /** Of an object. */
  readonly members?: Readonly<Record<string, DetailsMember>> | undefined
}

/** A type of authorization details (RFC 9396 section 2), as an API describes it. */
export interface DetailsType {
  /** What people are asked to allow, as a sentence. */
  readonly label: string
  /** Whether consent that was given before counts for the same details again. */
  readonly remember?: boolean | undefined
  readonly members: Readonly<Record<string, DetailsMember>>
}

/** A type with the API that understands it. */
export interface StoredDetailsType {
  readonly type: string
  /** The identifier of the API. */
  readonly resource: string
  readonly definition: DetailsType
}

export type DetailsTypeTable = ReturnType<typeof createDetailsTypeTable>

const onlyKey = ''

/** The table `authorization_details_types`. */
export function createDetailsTypeTable(database: Database, clock: TtlCacheOptions = {}) {
  const memory = createTtlCache(async (type) => {
    if (!isStorable(type)) return undefined
    const { rows } = await database.query<StoredDetailsType>({
      name: 'details-type-find',
      text: `select type, resource, definition from authorization_details_types where type = $1`,
      values: [type],
    })
    return rows[0]
  }, clock)
  const names = createTtlCache(async (_key) => {
    const { rows } = await database.query<{ type: string }>({
      name: 'details-type-names',
      text: `select type from authorization_details_types order by type`,
    })
    return rows.map(({ type }) => type)
  }, clock)
  let last: readonly string[] | undefined
  return {
    /** A type that another process changed is found as it was for a few seconds more. */
    find: memory.find,

    /**
     * The names of all types, as they were when someone last asked: metadata does not wait for the
     * database, and needs none.
     */
    async names(): Promise<readonly string[]> {
      const asked = names.find(onlyKey).then(
        (found) => {
          last = found
        },
        () => {
          last ??= []
        },
      )
      if (!last) await asked
      return last ?? []
    },

    /**
     * Replaces the types of an API, in one statement.
     *
     * @returns `taken` where one of them is of another API, and nothing was changed.
     */
    async replace(
      resource: string,
      types: Readonly<Record<string, DetailsType>>,
    ): Promise<'replaced' | 'taken' | 'no such resource'> {
      if (!isStorable(resource)) return 'no such resource'
      const given = Object.entries(types)
      const { rows } = await database.query<{ known: boolean; written: number }>({
        text: `with resource as (
                 select identifier from resource_servers
                  where identifier = $1
                    and not exists (select from authorization_details_types
                                     where type = any($2::text[]) and resource <> $1)
               ), removed as (
                 delete from authorization_details_types using resource
                  where resource = resource.identifier and type <> all($2::text[])
               ), written as (
                 insert into authorization_details_types (type, resource, definition)
                 select type, identifier, definition
                   from resource, unnest($2::text[], $3::json[]) as new (type, definition)
                 on conflict on constraint authorization_details_types_pkey do update
                    set definition = excluded.definition
                  where authorization_details_types.resource = excluded.resource
                 returning type
               )
               select exists (select from resource_servers where identifier = $1) as known,
                      (select count(*) from written)::int as written`,
        values: [
          resource,
          given.map(([type]) => type),
          given.map(([, definition]) => JSON.stringify(definition)),
        ],
      })
      for (const [type] of given) memory.invalidate(type)
      names.invalidate(onlyKey)
      last = undefined
      const [row] = rows
      if (!row?.known) return 'no such resource'
      return row.written === given.length ? 'replaced' : 'taken'
    },
  }
}
