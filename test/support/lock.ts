import pg from 'pg'

/**
 * Holds the row locks of all artifacts of a kind while requests are made, until `waiting` of them
 * wait for one: then all of them have found the artifact unused, and race.
 */
export function race<T>(
  databaseUrl: string,
  kind: string,
  requests: readonly (() => Promise<T>)[],
): Promise<T[]> {
  const text = `select from artifacts where kind = '${kind}' for update`
  return raceFor(databaseUrl, { text, andThen: 'commit' }, requests)
}

/** The same for any lock: the one that a statement takes, until its transaction ends. */
export async function raceFor<T>(
  databaseUrl: string,
  lock: { text: string; andThen: 'commit' | 'rollback' },
  requests: readonly (() => Promise<T>)[],
): Promise<T[]> {
  const holder = new pg.Client({ connectionString: databaseUrl })
  // Within a transaction pg_stat_activity is read once and then stays as it was.
  const watcher = new pg.Client({ connectionString: databaseUrl })
  await Promise.all([holder.connect(), watcher.connect()])
  try {
    await holder.query('begin')
    await holder.query(lock.text)
    const answers = requests.map((request) => request())
    let settled = false
    void Promise.race(answers).finally(() => {
      settled = true
    })
    while (!settled && (await countWaiting(watcher)) < requests.length);
    await holder.query(lock.andThen)
    return await Promise.all(answers)
  } finally {
    await Promise.all([holder.end(), watcher.end()])
  }
}

async function countWaiting(client: pg.Client): Promise<number> {
  const { rows } = await client.query(
    `select count(*)::int as waiting from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'`,
  )
  return rows[0].waiting
}
