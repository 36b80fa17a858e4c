import type { Database } from './database.ts'
import { expiringRows } from './expiring-rows.ts'

/** A logout token that a relying party is to get. */
export interface LogoutDelivery {
  readonly id: string
  readonly clientId: string
  readonly sid: string
  readonly accountId: string
  /** This one included. */
  readonly attempts: number
}

export type LogoutDeliveryTable = ReturnType<typeof createLogoutDeliveryTable>

/** Rows of one client in a batch: one that answers slowly does not hold up the others. */
const perClient = 4

/** The table `logout_deliveries`. A trigger of `browser_sessions` fills it. */
export function createLogoutDeliveryTable(database: Database) {
  return {
    /**
     * Takes rows that are due, each for one caller of however many ask at once. They are due again
     * after a while, which is longer with each attempt, unless they are removed before.
     */
    async take(limit: number): Promise<LogoutDelivery[]> {
      const { rows } = await database.query<LogoutDelivery>({
        name: 'logout-deliveries-take',
        text: `with due as (
                 select oldest.id
                   from (select distinct client_id from logout_deliveries where due_at <= now()) client
                  cross join lateral (
                        select id from logout_deliveries
                         where client_id = client.client_id and due_at <= now() and expires_at > now()
                         order by due_at limit $2) oldest
               ), taken as (
                 select id from logout_deliveries
                  where id in (select id from due) and due_at <= now()
                  order by due_at limit $1 for update skip locked
               )
               update logout_deliveries
                  set attempts = attempts + 1,
                      due_at = now() + interval '30 seconds' * power(4, attempts)
                where id in (select id from taken)
               returning id, client_id as "clientId", sid, account_id as "accountId", attempts`,
        values: [limit, perClient],
      })
      return rows
    },

    async remove(ids: readonly string[]): Promise<void> {
      await database.query({
        name: 'logout-deliveries-remove',
        text: 'delete from logout_deliveries where id = any($1)',
        values: [ids],
      })
    },

    ...expiringRows(database, {
      table: 'logout_deliveries',
      column: 'expires_at',
      before: 'now()',
    }),
  }
}
