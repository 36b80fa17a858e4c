import { randomInt } from 'node:crypto'
import type { Database } from './database.ts'
import { DatabaseUnavailableError } from './database-unavailable.ts'

/** Nodes that write at the same time have rows of their own, as a rule. */
const slots = 1000

/** Disk full, and input or output that failed (appendix A of PostgreSQL's documentation). */
const storageStates: ReadonlySet<unknown> = new Set(['53100', '58030'])

/** Milliseconds for which a node that could not store something is not ready. */
const suspicionMs = 10_000

export interface NodeProbe {
  /** The same database, whose failures to store are noticed. */
  readonly database: Database
  /** Resolves when the database answers, and is one that can be written to. */
  ping(): Promise<void>
  /** Writes a row. Milliseconds since the epoch by the clock of the database. */
  write(): Promise<number>
}

/**
 * Whether a database takes writes. One that is full may still write over a row that is there: what
 * fails for requests counts as well, for a while.
 */
export function createNodeProbe(
  database: Database,
  { now = () => performance.now() }: { now?: () => number } = {},
): NodeProbe {
  const slot = randomInt(slots)
  let failedAt = Number.NEGATIVE_INFINITY
  return {
    database: {
      ...database,
      async query(statement) {
        try {
          return await database.query(statement)
        } catch (error) {
          if (isStorageFailure(error)) failedAt = now()
          throw error
        }
      },
    },
    async ping() {
      if (now() - failedAt < suspicionMs) throw new Error('the database could not store something')
      // It touches nothing, and a server that takes no writes refuses it. Its connection is closed
      // then, as after every error: the next one may be led to the primary.
      await database.query({ name: 'ping', text: 'select from artifacts where false for share' })
    },
    async write() {
      const { rows } = await database.query<{ now: number }>({
        name: 'ping-write',
        text: `insert into node_probes (slot, at) values ($1, clock_timestamp())
               on conflict (slot) do update set at = excluded.at
               returning (extract(epoch from clock_timestamp()) * 1000)::float8 as now`,
        values: [slot],
      })
      return (rows[0] as { now: number }).now
    },
  }
}

function isStorageFailure(error: unknown): boolean {
  const { cause = error } = error instanceof DatabaseUnavailableError ? error : {}
  return storageStates.has((cause as { code?: unknown } | undefined)?.code)
}
