import { hash } from 'node:crypto'
import type { Database } from './database.ts'

export type ReplayTable = ReturnType<typeof createReplayTable>

/** The table `replay_marks`: values that may be seen once. */
export function createReplayTable(database: Database) {
  return {
    /**
     * Marks a one-time value as seen: true for exactly one of any number of concurrent calls on
     * any number of nodes, because it is one statement whose row count decides.
     *
     * @param issuer who made the value. Its length is part of the key, so that no two pairs of
     *   issuer and value have one key.
     * @param expiresAt Unix time in seconds until which the mark is kept.
     */
    async markOnce(issuer: string, value: string, expiresAt: number): Promise<boolean> {
      const { rowCount } = await database.query({
        name: 'replay-mark-once',
        text: `insert into replay_marks (id, expires_at) values ($1, to_timestamp($2))
               on conflict on constraint replay_marks_pkey do nothing`,
        values: [hash('sha256', `${issuer.length}:${issuer}${value}`, 'buffer'), expiresAt],
      })
      return rowCount === 1
    },

    /** Removes up to `limit` expired marks; rows that another node is removing are passed over. */
    async removeExpired(limit: number): Promise<number> {
      const { rowCount } = await database.query({
        name: 'replay-remove-expired',
        text: `delete from replay_marks where id = any(array(
                 select id from replay_marks where expires_at < now() limit $1
                    for update skip locked))`,
        values: [limit],
      })
      return rowCount
    },
  }
}
