import { setTimeout } from 'node:timers/promises'
import pg from 'pg'

/** A lock on a table that was there before, and for how long it was waited for and held. */
export interface SeenLock {
  readonly relation: string
  readonly mode: string
  waitedMs: number
  heldMs: number
}

/** Milliseconds between two looks: a lock may be held for so much longer than it was seen. */
const lookMs = 5

/** Watches the locks that keep more than readers and writers of rows do, until it ends. */
export async function watchLocks(connectionString: string) {
  await using opened = new AsyncDisposableStack()
  const client = opened.adopt(new pg.Client({ connectionString }), (each) => each.end())
  await client.connect()
  const { rows: tables } = await client.query<{ oid: string; name: string }>(
    `select oid::text as oid, relname as name from pg_class
      where relkind in ('r', 'p') and relnamespace = current_schema()::regnamespace
        and relname !~ '^knex'`,
  )
  const names = new Map(tables.map(({ oid, name }) => [oid, name]))
  const seen = new Map<string, SeenLock>()
  let isOver = false
  async function look() {
    let last = performance.now()
    while (!isOver) {
      const { rows } = await client.query<{ oid: string; mode: string; granted: boolean }>({
        name: 'look',
        text: `select distinct relation::text as oid, mode, granted
                 from pg_locks join pg_stat_activity using (pid)
                where locktype = 'relation' and backend_type = 'client backend'
                  and mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock',
                               'ExclusiveLock', 'AccessExclusiveLock')`,
      })
      const now = performance.now()
      for (const { oid, mode, granted } of rows) {
        const relation = names.get(oid)
        if (relation === undefined) continue
        const name = `${relation} ${mode}`
        const lock = seen.get(name) ?? { relation, mode, waitedMs: 0, heldMs: 0 }
        if (granted) lock.heldMs += now - last
        else lock.waitedMs += now - last
        seen.set(name, lock)
      }
      last = now
      await setTimeout(lookMs)
    }
  }
  const looking = look()
  async function end(): Promise<SeenLock[]> {
    isOver = true
    await looking
    return [...seen.values()]
  }
  const open = opened.move()
  return {
    end,
    async [Symbol.asyncDispose]() {
      await end()
      await open.disposeAsync()
    },
  }
}
