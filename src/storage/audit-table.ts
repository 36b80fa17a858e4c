import type { Database } from './database.ts'

export interface AuditRow {
  readonly at: Date
  readonly event: string
  /** Who did it, where that is not the account or the client itself: an administrator. */
  readonly actor?: string | undefined
  readonly account?: string | undefined
  readonly client?: string | undefined
  readonly address?: string | undefined
  readonly requestId?: string | undefined
  readonly details: Readonly<Record<string, unknown>>
}

export interface StoredAuditRow {
  readonly id: number
  readonly at: Date
  readonly event: string
  readonly actor: string | null
  readonly account: string | null
  readonly client: string | null
  readonly address: string | null
  readonly requestId: string | null
  readonly details: Readonly<Record<string, unknown>>
}

export interface AuditQuery {
  /** Only rows with a greater id. */
  readonly after?: number | undefined
  readonly since?: Date | undefined
  readonly event?: string | undefined
  readonly account?: string | undefined
  readonly client?: string | undefined
  readonly limit: number
}

export type AuditTable = ReturnType<typeof createAuditTable>

// Any number will do, as long as every release uses the same one.
const appendLock = 4_815_162_343

/** The table `audit_events`. */
export function createAuditTable(database: Database) {
  return {
    /** Appends rows in their order. */
    async append(rows: readonly AuditRow[]): Promise<void> {
      await database.query({
        name: 'audit-append',
        // The lock is taken before an identity is drawn and given back after the commit: otherwise
        // a row could become visible after one with a greater id.
        text: `with turn as materialized (select pg_advisory_xact_lock($1))
               insert into audit_events
                      (at, event, actor, account, client, address, request_id, details)
               select new.* from turn, unnest($2::timestamptz[], $3::text[], $4::text[], $5::text[],
                      $6::text[], $7::text[], $8::text[], $9::json[]) as new`,
        values: [
          appendLock,
          rows.map(({ at }) => at),
          rows.map(({ event }) => event),
          rows.map(({ actor }) => actor),
          rows.map(({ account }) => account),
          rows.map(({ client }) => client),
          rows.map(({ address }) => address),
          rows.map(({ requestId }) => requestId),
          rows.map(({ details }) => JSON.stringify(details)),
        ],
      })
    },

    /** How many rows there are. */
    async count({ since, event, account, client }: Omit<AuditQuery, 'after' | 'limit'>) {
      const { rows } = await database.query<{ count: number }>({
        text: `select count(*)::float8 as count from audit_events
                where ($1::timestamptz is null or at >= $1)
                  and ($2::text is null or event = $2)
                  and ($3::text is null or account = $3)
                  and ($4::text is null or client = $4)`,
        values: [since, event, account, client],
      })
      return rows[0]?.count ?? 0
    },

    /** Rows in the order they were written. */
    async list({ after, since, event, account, client, limit }: AuditQuery) {
      const { rows } = await database.query<StoredAuditRow>({
        text: `select id::float8 as id, at, event, actor, account, client, address,
                      request_id as "requestId", details
                 from audit_events
                where id > coalesce($1, 0)
                  and ($2::timestamptz is null or at >= $2)
                  and ($3::text is null or event = $3)
                  and ($4::text is null or account = $4)
                  and ($5::text is null or client = $5)
                order by id limit $6`,
        values: [after, since, event, account, client, limit],
      })
      return rows
    },

    /** Removes rows from before a time, as far as the table lets them go. */
    async removeBefore(time: Date): Promise<number> {
      const { rowCount } = await database.query({
        text: 'delete from audit_events where at < $1',
        values: [time],
      })
      return rowCount
    },
  }
}
