import pg from 'pg'
import type { Database } from '../../src/storage/database.ts'
import { isRequestStatement } from './request-statement.ts'

/** Before the statement reaches PostgreSQL, or after it was committed and before its answer came. */
export type Moment = 'before' | 'after'

/** Ends the connection of one statement to come that a request waits for. */
export function createCrash(databaseUrl: () => string) {
  let left = 0
  let moment: Moment = 'before'
  let ended: string | undefined
  return {
    /** The statement whose connection has ended, for people. */
    get ended() {
      return ended
    },
    arm(statement: number, when: Moment): void {
      left = statement
      moment = when
    },
    /** Whether the statement came; nothing is ended any more. */
    disarm(): boolean {
      const came = left <= 0
      left = 0
      return came
    },
    wrap: (database: Database): Database => ({
      ...database,
      query(statement) {
        if (left <= 0 || !isRequestStatement(statement)) return database.query(statement)
        left -= 1
        if (left > 0) return database.query(statement)
        ended = statement.name ?? statement.text
        return queryAndEnd(databaseUrl(), statement, moment)
      },
    }),
  }
}

async function queryAndEnd(
  connectionString: string,
  statement: pg.QueryConfig,
  moment: Moment,
): Promise<never> {
  const [doomed, killer] = [1, 2].map(() => new pg.Client({ connectionString })) as [
    pg.Client,
    pg.Client,
  ]
  doomed.on('error', () => {})
  await Promise.all([doomed.connect(), killer.connect()])
  try {
    const { rows } = await doomed.query<{ pid: number }>('select pg_backend_pid() as pid')
    if (moment === 'after') await doomed.query(statement)
    await killer.query('select pg_terminate_backend($1, 10000)', [rows[0]?.pid])
    await doomed.query(statement)
    throw new Error('the connection was to be ended')
  } finally {
    await killer.end()
  }
}
