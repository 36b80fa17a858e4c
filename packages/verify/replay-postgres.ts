/** Used proofs in PostgreSQL, for several replicas. */
import { hash } from 'node:crypto'
import { checkNames, duration, namesOf, optionalMethods } from './lib/check.ts'
import type { ReplayOutcome, ReplayStore } from './replay.ts'

/** What is needed of a `pg` pool or client. */
export type PostgresClient = {
  query(query: {
    name: string
    text: string
    values: unknown[]
  }): Promise<{ rowCount: number | null }>
}

/** Options of {@link createPostgresReplayStore}. */
export type PostgresReplayOptions = Readonly<{
  client: PostgresClient
  /** Seconds by which the clocks of the replicas may differ. Default 5. */
  clockDifference?: number
}>

const postgresOptions = namesOf<PostgresReplayOptions>({ client: true, clockDifference: true })

/** A replay store that has to be swept now and then. */
export interface PostgresReplayStore extends ReplayStore {
  /** Deletes the entries that no longer matter and says how many; `now` in seconds. */
  sweep(now: number): Promise<number>
}

/**
 * The table. It is logged: a crash of the server would empty an unlogged one, and so would a standby
 * that takes over, and proofs of the last minute could be used again.
 */
export const postgresReplayTable = `create table if not exists dpop_replay (
  key bytea primary key,
  expires_at timestamptz not null
)`

const consume = `insert into dpop_replay (key, expires_at)
values ($1, to_timestamp($2))
on conflict (key) do update set expires_at = excluded.expires_at
where dpop_replay.expires_at < to_timestamp($3)`

const sweep = 'delete from dpop_replay where expires_at < to_timestamp($1)'

/**
 * Makes a replay store of one statement a proof, whose row count decides: of two that come at
 * once, one writes the row.
 *
 * It does NOT make the table ({@link postgresReplayTable}), and it does NOT delete what has
 * expired: call `sweep` every minute or so from one of the replicas. It does NOT know what a standby
 * had not received when it took over: that takes synchronous replication.
 *
 * @example
 * ```ts
 * const pool = new pg.Pool()
 * await pool.query(postgresReplayTable)
 * const replay = createPostgresReplayStore({ client: pool })
 * ```
 */
export function createPostgresReplayStore(options: PostgresReplayOptions): PostgresReplayStore {
  checkNames('options', options, postgresOptions)
  optionalMethods('client', options.client ?? {}, ['query'])
  duration('clockDifference', options.clockDifference, 5)
  const { client, clockDifference = 5 } = options
  return Object.freeze({
    shared: true,
    async consume(key: string, expiresAt: number, now: number): Promise<ReplayOutcome> {
      const id = hash('sha256', key, 'buffer')
      const values = [id, expiresAt + clockDifference, now]
      const { rowCount } = await client.query({
        name: 'dpop_replay_consume',
        text: consume,
        values,
      })
      return rowCount === 1 ? 'fresh' : 'replayed'
    },
    async sweep(now: number): Promise<number> {
      const query = { name: 'dpop_replay_sweep', text: sweep, values: [now] }
      return (await client.query(query)).rowCount ?? 0
    },
  })
}
