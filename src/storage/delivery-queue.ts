import type { Database } from './database.ts'
import { type ExpiringRows, expiringRows } from './expiring-rows.ts'

/** Something that this server is to send. */
export interface QueuedDelivery {
  readonly id: string
  /** This one included. */
  readonly attempts: number
}

/** Something that a client is to get by a request of this server. */
interface ClientDelivery extends QueuedDelivery {
  readonly clientId: string
  readonly accountId: string
}

/** A logout token that a relying party is to get. */
export interface LogoutDelivery extends ClientDelivery {
  readonly sid: string
}

/** A notification that a request of the backchannel was decided (CIBA Core section 10.2). */
export interface PingDelivery extends ClientDelivery {
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

/** Rows of one lane in a batch: a client that answers slowly does not hold up the others. */
const perLane = 4

const ofClients = {
  lane: 'client_id',
  columns: 'client_id as "clientId", account_id as "accountId"',
}

/** The table `logout_deliveries`. A trigger of `browser_sessions` fills it. */
export const createLogoutDeliveries = (database: Database): DeliveryQueue<LogoutDelivery> =>
  createDeliveryQueue(database, {
    table: 'logout_deliveries',
    lane: ofClients.lane,
    columns: `${ofClients.columns}, sid`,
    firstPauseS: 30,
  })

/** The table `ping_deliveries`, which the decision about a request fills. */
export const createPingDeliveries = (database: Database): DeliveryQueue<PingDelivery> =>
  createDeliveryQueue(database, {
    table: 'ping_deliveries',
    lane: ofClients.lane,
    columns: `${ofClients.columns}, sealed`,
    firstPauseS: 10,
  })

interface QueueTable {
  readonly table: string
  /** The column of what shares a batch with others. */
  readonly lane: string
  /** Of what is sent, as SQL. */
  readonly columns: string
  /** Seconds between the first two attempts: longer than one may take. */
  readonly firstPauseS: number
}

/** A table of what is to be sent: each row is taken by one of however many nodes ask. */
export function createDeliveryQueue<Delivery extends QueuedDelivery>(
  database: Database,
  { table, lane, columns, firstPauseS }: QueueTable,
): DeliveryQueue<Delivery> {
  return {
    async take(limit) {
      const { rows } = await database.query<Delivery>({
        name: `${table}-take`,
        text: `with due as (
                 select oldest.id
                   from (select distinct ${lane} as name from ${table} where due_at <= now()) lane
                  cross join lateral (
                        select id from ${table}
                         where ${lane} = lane.name and due_at <= now() and expires_at > now()
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
               returning id, attempts, ${columns}`,
        values: [limit, perLane, firstPauseS],
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
