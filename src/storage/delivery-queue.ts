import type { Database } from './database.ts'
import { type ExpiringRows, expiringRows } from './expiring-rows.ts'

/** Something that a client is to get by a request of this server. */
export interface QueuedDelivery {
  readonly id: string
  readonly clientId: string
  readonly accountId: string
  /** This one included. */
  readonly attempts: number
}

/** A logout token that a relying party is to get. */
export interface LogoutDelivery extends QueuedDelivery {
  readonly sid: string
}

/** A notification that a request of the backchannel was decided (CIBA Core section 10.2). */
export interface PingDelivery extends QueuedDelivery {
  /** What it says, which only the nodes can read. */
  readonly sealed: string
}

export interface DeliveryQueue<Delivery extends QueuedDelivery> extends ExpiringRows {
  /**
   * Takes rows that are due, each for one caller of however many ask at once. They are due again
   * after a while, which is longer with each attempt, unless they are removed before.
   */
  take(limit: number): Promise<Delivery[]>
  remove(ids: readonly string[]): Promise<void>
}

/** Rows of one client in a batch: one that answers slowly does not hold up the others. */
const perClient = 4

/** The table `logout_deliveries`. A trigger of `browser_sessions` fills it. */
export const createLogoutDeliveries = (database: Database): DeliveryQueue<LogoutDelivery> =>
  createDeliveryQueue(database, { table: 'logout_deliveries', content: 'sid', firstPauseS: 30 })

/** The table `ping_deliveries`, which the decision about a request fills. */
export const createPingDeliveries = (database: Database): DeliveryQueue<PingDelivery> =>
  createDeliveryQueue(database, { table: 'ping_deliveries', content: 'sealed', firstPauseS: 10 })

interface QueueTable {
  readonly table: string
  /** The column of what is sent. */
  readonly content: string
  /** Seconds between the first two attempts: longer than one may take. */
  readonly firstPauseS: number
}

function createDeliveryQueue<Delivery extends QueuedDelivery>(
  database: Database,
  { table, content, firstPauseS }: QueueTable,
): DeliveryQueue<Delivery> {
  return {
    async take(limit) {
      const { rows } = await database.query<Delivery>({
        name: `${table}-take`,
        text: `with due as (
                 select oldest.id
                   from (select distinct client_id from ${table} where due_at <= now()) client
                  cross join lateral (
                        select id from ${table}
                         where client_id = client.client_id and due_at <= now() and expires_at > now()
                         order by due_at limit $2) oldest
               ), taken as (
                 select id from ${table}
                  where id in (select id from due) and due_at <= now()
                  order by due_at limit $1 for update skip locked
               )
               update ${table}
                  set attempts = attempts + 1,
                      due_at = now() + make_interval(secs => $3) * power(4, attempts)
                where id in (select id from taken)
               returning id, client_id as "clientId", account_id as "accountId", ${content}, attempts`,
        values: [limit, perClient, firstPauseS],
      })
      return rows
    },

    async remove(ids) {
      await database.query({
        name: `${table}-remove`,
        text: `delete from ${table} where id = any($1)`,
        values: [ids],
      })
    },

    ...expiringRows(database, { table, column: 'expires_at', before: 'now()' }),
  }
}
