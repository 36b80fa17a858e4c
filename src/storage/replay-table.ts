import { hash } from 'node:crypto'
import { createBatch } from './batch.ts'
import type { Database } from './database.ts'
import { expiringRows } from './expiring-rows.ts'

/** That a one-time value was seen. */
export interface ReplayEntry {
  /** SHA-256, in hexadecimal. */
  readonly id: string
  /** Unix time in seconds until which the entry is kept. */
  readonly expiresAt: number
}

/**
 * @param issuer who made the value. Its length is part of the key, so that no two pairs of issuer
 *   and value have one key.
 */
export function replayEntry(issuer: string, value: string, expiresAt: number): ReplayEntry {
  return { id: hash('sha256', `${issuer.length}:${issuer}${value}`, 'hex'), expiresAt }
}

/**
 * For how long an entry stays after its end. Proofs and assertions are judged by clocks that count
 * whole seconds and differ from that of the database a little: one that is still good must still be known.
 */
const tolerance = '1 minute'

/**
 * The part of a statement that records one-time values, each once, and returns those that are new.
 * In one order everywhere, so that nodes that record the same values wait in a line and not in a
 * circle.
 *
 * @param ids - hexadecimal, as the name of a parameter.
 * @param ends - Unix times, as the name of a parameter.
 * @param condition - of SQL, without which nothing is recorded.
 */
export function recordEntries(ids: string, ends: string, condition = 'true'): string {
  return `insert into replay_marks (id, expires_at)
             select decode(id, 'hex'), to_timestamp(expires_at)
               from unnest(${ids}::text[], ${ends}::float8[]) as entry (id, expires_at)
              where ${condition}
              order by id
             on conflict on constraint replay_marks_pkey do nothing
             returning encode(id, 'hex') as id`
}

export type ReplayTable = ReturnType<typeof createReplayTable>

/** The table `replay_marks`: values that may be seen once. */
export function createReplayTable(database: Database) {
  const insert = createBatch((replayEntries: readonly ReplayEntry[]) =>
    insertReplayEntries(database, replayEntries),
  )
  return {
    /**
     * Records a one-time value: true for exactly one of any number of concurrent calls on
     * any number of nodes, because it is one statement whose rows decide. Entries that come together
     * are one statement and one commit.
     */
    insert,

    /** The same, of {@link replayEntry}. */
    recordReplay(issuer: string, value: string, expiresAt: number): Promise<boolean> {
      return insert(replayEntry(issuer, value, expiresAt))
    },

    ...expiringRows(database, {
      table: 'replay_marks',
      column: 'expires_at',
      before: `now() - interval '${tolerance}'`,
    }),
  }
}

/** @returns for each entry whether it is new; of equal entries, the first may be. */
async function insertReplayEntries(
  database: Database,
  replayEntries: readonly ReplayEntry[],
): Promise<boolean[]> {
  const { rows } = await database.query<{ id: string }>({
    name: 'replay-record',
    text: recordEntries('$1', '$2'),
    values: [replayEntries.map(({ id }) => id), replayEntries.map(({ expiresAt }) => expiresAt)],
  })
  const inserted = new Set(rows.map(({ id }) => id))
  return replayEntries.map(({ id }) => inserted.delete(id))
}
