import type { Database } from './database.ts'
import { expiringRows } from './expiring-rows.ts'

/** How often strangers caused one kind of event from one network in one minute. */
export interface CountedEvent {
  /** The beginning of the minute. */
  readonly minute: Date
  readonly event: string
  readonly reason: string
  /** `*` for those that were too many to be told apart. */
  readonly network: string
  readonly count: number
  /** Of the last one. */
  readonly client: string | null
  readonly requestId: string | null
}

export interface CountedEventQuery {
  readonly since?: Date | undefined
  readonly event?: string | undefined
  readonly client?: string | undefined
  readonly limit: number
}

export type CountedEventTable = ReturnType<typeof createCountedEventTable>

const kept = '7 days'

/** The table `counted_events`. */
export function createCountedEventTable(database: Database) {
  return {
    /** Adds counts to those that are there. The order of the rows keeps servers from deadlock. */
    async add(counts: readonly CountedEvent[]): Promise<void> {
      const rows = counts.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))
      await database.query({
        name: 'counted-event-add',
        text: `insert into counted_events as counted
                      (minute, event, reason, network, count, client, request_id)
               select * from unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[],
                      $5::bigint[], $6::text[], $7::text[])
               on conflict on constraint counted_events_pkey do update
                  set count = counted.count + excluded.count,
                      client = excluded.client, request_id = excluded.request_id`,
        values: [
          rows.map(({ minute }) => minute),
          rows.map(({ event }) => event),
          rows.map(({ reason }) => reason),
          rows.map(({ network }) => network),
          rows.map(({ count }) => count),
          rows.map(({ client }) => client),
          rows.map(({ requestId }) => requestId),
        ],
      })
    },

    /** The latest counts, in the order of their minutes. */
    async list({ since, event, client, limit }: CountedEventQuery): Promise<CountedEvent[]> {
      const { rows } = await database.query<CountedEvent>({
        name: 'counted-event-list',
        text: `select minute, event, reason, network, count::float8 as count, client,
                      request_id as "requestId"
                 from counted_events
                where ($1::timestamptz is null or minute >= $1)
                  and ($2::text is null or event = $2)
                  and ($3::text is null or client = $3)
                order by minute desc, count desc limit $4`,
        values: [since, event, client, limit],
      })
      return rows.toReversed()
    },

    ...expiringRows(database, {
      table: 'counted_events',
      column: 'minute',
      before: `now() - interval '${kept}'`,
    }),
  }
}

function keyOf({ minute, event, reason, network }: CountedEvent): string {
  return `${minute.toISOString()} ${event} ${reason} ${network}`
}
