import pg from 'pg'
import type { Database } from './database.ts'
import type { ExpiringRows } from './expiring-rows.ts'
import { StorageError } from './storage-error.ts'

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

/** Rows read by one statement. */
const exportBatch = 1000

/** Months that are made ahead of time: a server makes more, once a minute. */
const monthsAhead = 3

/** The months around now are always there. */
const mostClockError = "interval '28 days'"

// Any number will do, as long as every release uses the same one.
const appendLock = 4_815_162_343

/** Bytes of `details` as JSON: requests decide what is in it, and rows stay for 90 days. */
export const detailsLimitBytes = 4096

/** Characters of a string in details that exceed their limit. */
const longestString = 256

/** Characters of a name or id: the longest that a client may have is shorter. */
const longestName = 256

/** The table `audit_events`. */
export function createAuditTable(database: Database) {
  return {
    /**
     * Appends rows in their order. Long names and details are cut, and a time that only a wrong clock
     * can show is moved to the nearest that can be right.
     */
    async append(rows: readonly AuditRow[]): Promise<void> {
      try {
        await appendRows(database, rows)
      } catch (error) {
        if (!isOfNoMonth(error)) throw error
        // No server has made the months of late: only commands were used.
        await keepMonths(database)
        await appendRows(database, rows)
      }
    },

    /**
     * The months of the table, as something to clean up: makes those that come, and drops those
     * that ended more than `retentionDays` days ago, or none.
     */
    months({
      retentionDays,
      onDropped,
    }: {
      /** At least 90: PostgreSQL drops nothing younger. */
      retentionDays: number | undefined
      onDropped: (months: readonly string[]) => void
    }): ExpiringRows {
      return {
        table: 'audit_events',
        async removeExpired() {
          const dropped = await keepMonths(database, retentionDays)
          if (dropped.length > 0) onDropped(dropped)
          return { rows: 0, until: undefined }
        },
        countExpired: async () => 0,
      }
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

    /**
     * Rows in the order they were written.
     *
     * @throws {@link StorageError} `audit_id_unsafe`
     */
    async list({ after = 0, since, event, account, client, limit }: AuditQuery) {
      const { rows } = await database.query<Omit<StoredAuditRow, 'id'> & { id: string }>({
        text: `select id, at, event, actor, account, client, address,
                      request_id as "requestId", details
                 from audit_events
                where id > $1::bigint
                  and ($2::timestamptz is null or at >= $2)
                  and ($3::text is null or event = $3)
                  and ($4::text is null or account = $4)
                  and ($5::text is null or client = $5)
                order by id limit $6`,
        values: [after, since, event, account, client, limit],
      })
      return rows.map((row): StoredAuditRow => ({ ...row, id: asSafeInteger(row.id) }))
    },

    /**
     * Rows from one time until before another, in the order of their times, some of them in memory
     * at a time.
     *
     * @throws {@link StorageError} `audit_id_unsafe`
     */
    async *between(from: Date, to: Date): AsyncGenerator<StoredAuditRow> {
      // As the database writes it, which counts microseconds.
      let last = { at: from.toISOString(), id: '0' }
      for (;;) {
        const { rows } = await database.query<
          Omit<StoredAuditRow, 'id'> & { id: string; place: string }
        >({
          name: 'audit-list-between',
          text: `select id, at, at::text as place, event, actor, account, client, address,
                        request_id as "requestId", details
                   from audit_events
                  where at >= $1 and at < $2 and (at > $1 or id > $3::bigint)
                  order by at, id limit $4`,
          values: [last.at, to, last.id, exportBatch],
        })
        for (const { place, ...row } of rows) yield { ...row, id: asSafeInteger(row.id) }
        const end = rows.at(-1)
        if (!end || rows.length < exportBatch) return
        last = { at: end.place, id: end.id }
      }
    },
  }
}

async function appendRows(database: Database, rows: readonly AuditRow[]): Promise<void> {
  await database.query({
    name: 'audit-append',
    // The lock is taken before an identity is drawn and given back after the commit: otherwise
    // a row could become visible after one with a greater id.
    text: `with turn as materialized (select pg_advisory_xact_lock($1))
           insert into audit_events
                  (at, event, actor, account, client, address, request_id, details)
           select greatest(least(new.at, now() + ${mostClockError}), now() - ${mostClockError}),
                  new.event, actor, account, client, address, request_id, details
             from turn, unnest($2::timestamptz[], $3::text[], $4::text[], $5::text[],
                  $6::text[], $7::text[], $8::text[], $9::json[])
               as new (at, event, actor, account, client, address, request_id, details)`,
    values: [
      appendLock,
      rows.map(({ at }) => at),
      rows.map(({ event }) => event),
      rows.map(({ actor }) => asName(actor)),
      rows.map(({ account }) => asName(account)),
      rows.map(({ client }) => asName(client)),
      rows.map(({ address }) => asName(address)),
      rows.map(({ requestId }) => asName(requestId)),
      rows.map(({ details }) => asBoundedJson(details)),
    ],
  })
}

/** @returns the names of the parts of the table that were dropped. */
async function keepMonths(database: Database, retentionDays?: number): Promise<string[]> {
  const { rows } = await database.query<{ dropped: string[] }>({
    name: 'audit-keep-months',
    text: 'select dropped from keep_audit_months($1, $2)',
    values: [monthsAhead, retentionDays],
  })
  return rows[0]?.dropped ?? []
}

/** PostgreSQL's answer to a row for which a partitioned table has no part: a check_violation. */
function isOfNoMonth(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '23514' && !error.constraint
}

/** A bigint as the driver returns it. A rounded id would make a reader repeat or miss rows. */
function asSafeInteger(id: string): number {
  const number = Number(id)
  if (Number.isSafeInteger(number)) return number
  throw new StorageError(
    'audit_id_unsafe',
    `The audit event ${id} has an id above ${Number.MAX_SAFE_INTEGER}, which JSON readers would ` +
      'round. Restart the sequence of audit_events.id at a lower, unused value.',
  )
}

/** One row that PostgreSQL refuses would hold back all that come after it. */
function asName(text: string | undefined): string | undefined {
  return text?.slice(0, longestName).toWellFormed().replaceAll('\0', '\ufffd')
}

function asBoundedJson(details: AuditRow['details']): string {
  const whole = JSON.stringify(details)
  if (Buffer.byteLength(whole) <= detailsLimitBytes) return whole
  const shortened = JSON.stringify(details, (_name, value: unknown) =>
    typeof value === 'string' && value.length > longestString
      ? `${value.slice(0, longestString).toWellFormed()}…`
      : value,
  )
  if (Buffer.byteLength(shortened) <= detailsLimitBytes) return shortened
  // A character of JSON text takes at most three bytes when it is a string of JSON again.
  return JSON.stringify({ cut: whole.slice(0, detailsLimitBytes / 4).toWellFormed() })
}
