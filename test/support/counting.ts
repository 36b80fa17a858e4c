import type { Database } from '../../src/storage/database.ts'
import { isRequestStatement } from './request-statement.ts'

/** Counts the statements that requests wait for. */
export function createStatementCounter() {
  const names: string[] = []
  return {
    names,
    wrap: (database: Database): Database => ({
      ...database,
      query(statement) {
        if (isRequestStatement(statement)) names.push(statement.name ?? statement.text)
        return database.query(statement)
      },
    }),
  }
}
