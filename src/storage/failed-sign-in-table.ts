import type { Database } from './database.ts'
import { expiringRows } from './expiring-rows.ts'

/** The failed sign-ins of one account in one hour. */
export interface FailedSignIns {
  readonly count: number
  /** Of the last one. */
  readonly at: Date
  readonly address: string
  readonly userAgent: string
}

export type FailedSignInTable = ReturnType<typeof createFailedSignInTable>

const kept = '90 days'

/** The table `failed_sign_ins`. */
export function createFailedSignInTable(database: Database) {
  return {
    async add(
      accountId: string,
      { address, userAgent }: Pick<FailedSignIns, 'address' | 'userAgent'>,
    ): Promise<void> {
      await database.query({
        name: 'failed-sign-in-add',
        text: `insert into failed_sign_ins as failed
                      (account_id, hour, count, at, address, user_agent)
               values ($1, date_trunc('hour', now()), 1, now(), $2, $3)
               on conflict on constraint failed_sign_ins_pkey do update
                  set count = failed.count + 1, at = excluded.at,
                      address = excluded.address, user_agent = excluded.user_agent`,
        values: [accountId, address, userAgent],
      })
    },

    /** The latest first. */
    async listOf(accountId: string, limit: number): Promise<FailedSignIns[]> {
      const { rows } = await database.query<FailedSignIns>({
        name: 'failed-sign-in-list',
        text: `select count, at, address, user_agent as "userAgent"
                 from failed_sign_ins where account_id = $1 order by hour desc limit $2`,
        values: [accountId, limit],
      })
      return rows
    },

    ...expiringRows(database, {
      table: 'failed_sign_ins',
      column: 'hour',
      before: `now() - interval '${kept}'`,
    }),
  }
}
