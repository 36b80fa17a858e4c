import type { Database } from '../../src/storage/database.ts'

/** Counts the statements that serve requests; those that remove expired rows come by the clock. */
export function createStatementCounter() {
  const names: string[] = []
  return {
    names,
    wrap: (database: Database): Database => ({
      ...database,
      query(statement) {
        const name = statement.name ?? statement.text
        if (!name.endsWith('-remove-expired')) names.push(name)
        return database.query(statement)
      },
    }),
  }
}
