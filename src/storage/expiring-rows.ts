import type { Database } from './database.ts'

/** A table whose rows are of no use after a while. Expired rows are never found by any query. */
export interface ExpiringRows {
  readonly table: string
  /** Removes up to `limit` expired rows; rows that another node is removing are passed over. */
  removeExpired(limit: number): Promise<number>
  /** How many expired rows there are, counted up to `limit`. */
  countExpired(limit: number): Promise<number>
}

/**
 * @param key what names a row in one statement.
 * @param expired the SQL condition that a row can go.
 */
export function expiringRows(
  database: Database,
  { table, key, expired }: { table: string; key: string; expired: string },
): ExpiringRows {
  return {
    table,

    async removeExpired(limit) {
      const { rowCount } = await database.query({
        name: `${table}-remove-expired`,
        text: `delete from ${table} where ${key} = any(array(
                 select ${key} from ${table} where ${expired} limit $1 for update skip locked))`,
        values: [limit],
      })
      return rowCount
    },

    async countExpired(limit) {
      const { rows } = await database.query<{ count: number }>({
        name: `${table}-count-expired`,
        text: `select count(*)::int as count
                 from (select from ${table} where ${expired} limit $1) as expired`,
        values: [limit],
      })
      return rows[0]?.count ?? 0
    },
  }
}
