import type { Database } from './database.ts'

/** A table whose rows are of no use after a while. Expired rows are never found by any query. */
export interface ExpiringRows {
  readonly table: string
  /**
   * Removes up to `limit` expired rows, the oldest first; rows that another node is removing are
   * passed over.
   *
   * @param from where to begin: {@link Removed.until} of the batch before, or undefined.
   */
  removeExpired(limit: number, from?: string): Promise<Removed>
  /** How many expired rows there are, counted up to `limit`. */
  countExpired(limit: number, from?: string): Promise<number>
}

/** What one batch has done. */
export interface Removed {
  readonly rows: number
  /** When the last of these rows expired, as the database writes it; undefined where none was found. */
  readonly until: string | undefined
}

interface Expiry {
  readonly table: string
  /** The indexed column by which rows expire. */
  readonly column: string
  readonly type?: 'timestamptz' | 'bigint'
  /** The SQL expression before which rows of that column can go. */
  readonly before: string
  /** Of rows that go with a row of another table: that table, its key, and the column that names it. */
  readonly owner?: { readonly table: string; readonly key: string; readonly by: string }
}

/**
 * Rows are removed by their place, and by the part of the table that it is in: where an operator has
 * partitioned the table, other parts have rows at the same place.
 *
 * The index still has an entry for each row that was removed since the last vacuum. A batch that
 * begins where the one before ended does not read them again.
 */
export function expiringRows(
  database: Database,
  { table, column, type = 'timestamptz', before, owner }: Expiry,
): ExpiringRows {
  const least = type === 'bigint' ? '-9223372036854775808' : '-infinity'
  const expired = `${column} < ${before} and ${column} >= coalesce($2::${type}, '${least}')`
  const removal = owner
    ? `delete from ${owner.table} using expired where ${owner.table}.${owner.key} = owner returning 1`
    : `delete from ${table} using expired
                  where ${table}.ctid = place and ${table}.tableoid = part returning 1`
  return {
    table,

    async removeExpired(limit, from) {
      const { rows } = await database.query<{ rows: number; until: string | null }>({
        name: `${table}-remove-expired`,
        text: `with expired as materialized (
                 select tableoid as part, ctid as place, ${owner?.by ?? 'null'} as owner,
                        ${column} as at
                   from ${table}
                  where ${expired}
                  order by ${column} limit $1 for update skip locked
               ), removed as (
                 ${removal}
               )
               select (select count(*)::int from removed) as rows,
                      (select max(at)::text from expired) as until`,
        values: [limit, from],
      })
      const { rows: count = 0, until } = rows[0] ?? {}
      return { rows: count, until: until ?? undefined }
    },

    async countExpired(limit, from) {
      const { rows } = await database.query<{ count: number }>({
        name: `${table}-count-expired`,
        text: `select count(*)::int as count
                 from (select from ${table} where ${expired} limit $1) as expired`,
        values: [limit, from],
      })
      return rows[0]?.count ?? 0
    },
  }
}
