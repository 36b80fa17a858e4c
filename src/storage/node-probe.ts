import { randomInt } from 'node:crypto'
import type { Database } from './database.ts'
import { DatabaseUnavailableError } from './database-unavailable.ts'

/** Nodes that write at the same time have rows of their own, as a rule. */
const slots = 1000

/** Why a database can store nothing, in words that anyone may read. */
export class CannotStoreError extends Error {
  override name = 'CannotStoreError'
}

/** By the codes of appendix A of PostgreSQL's documentation. */
const storageProblems: ReadonlyMap<unknown, string> = new Map([
  ['53100', 'the disk of the database is full'],
  ['58030', 'the database cannot write its files'],
])

const readOnly = ['25006', 'the database takes no writes'] as const

/** Milliseconds for which a node that could not store something is not ready. */
const suspicionMs = 10_000

export interface NodeProbe {
  /** The same database, whose failures to store are noticed. */
  readonly database: Database
  /**
   * Resolves when the database answers, and is one that can be written to.
   *
   * @throws {@link CannotStoreError} where it says why it is not.
   */
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
  let failed = { at: Number.NEGATIVE_INFINITY, problem: '' }
  const ask: Database['query'] = (statement) =>
    database.query(statement).catch((cause: unknown) => {
      const problem = new Map([...storageProblems, readOnly]).get(stateOf(cause))
      throw problem === undefined ? cause : new CannotStoreError(problem, { cause })
    }) as never
  return {
    database: {
      ...database,
      async query(statement) {
        try {
          return await database.query(statement)
        } catch (error) {
          const problem = storageProblems.get(stateOf(error))
          if (problem !== undefined) failed = { at: now(), problem }
          throw error
        }
      },
    },
    async ping() {
      if (now() - failed.at < suspicionMs) throw new CannotStoreError(failed.problem)
      // It touches nothing, and a server that takes no writes refuses it. Its connection is closed
      // then, as after every error: the next one may be led to the primary.
      await ask({ name: 'ping', text: 'select from artifacts where false for share' })
    },
    async write() {
      const { rows } = await ask<{ now: number }>({
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

function stateOf(error: unknown): unknown {
  const { cause = error } = error instanceof DatabaseUnavailableError ? error : {}
  return (cause as { code?: unknown } | undefined)?.code
}
