import pg from 'pg'

/** Runs one statement behind the back of the server. */
export async function query(
  databaseUrl: string,
  text: string,
  values: readonly unknown[] = [],
): Promise<Record<string, unknown>[]> {
  const database = new pg.Client({ connectionString: databaseUrl })
  await database.connect()
  try {
    return (await database.query(text, [...values])).rows
  } finally {
    await database.end()
  }
}
