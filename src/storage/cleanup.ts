import type { ExpiringRows } from './expiring-rows.ts'

/** Rows removed by one statement: few enough to hold locks for milliseconds. */
const batch = 1000

/** Batches of one table in one round: what is left waits for the next round. */
const batchesPerRound = 50

/** As far as expired rows are counted that a round has left. */
const mostCounted = 1_000_000

/** What a round has done to one table. */
export interface Cleaned {
  readonly table: string
  readonly removed: number
  readonly seconds: number
  /** Expired rows that are left to the next round. */
  readonly backlog: number
}

export interface CleanupOptions {
  readonly tables: readonly ExpiringRows[]
  /** Milliseconds between the beginnings of two rounds. */
  readonly interval: number
  readonly onCleaned: (cleaned: Cleaned) => void
  readonly onError: (error: unknown, table: string) => void
}

/**
 * Removes expired rows now and then every `interval` milliseconds, in bounded batches. Expired
 * rows are never found by any query, so a round that fails is only reported.
 */
export function startCleanup(options: CleanupOptions): AsyncDisposable {
  let stopped = false
  let round: Promise<void> | undefined
  const start = () => {
    // A round that takes longer than the interval is the next one as well.
    round ??= removeExpired(options, () => stopped).finally(() => {
      round = undefined
    })
  }
  start()
  const timer = setInterval(start, options.interval)
  timer.unref()
  return {
    async [Symbol.asyncDispose]() {
      stopped = true
      clearInterval(timer)
      await round
    },
  }
}

async function removeExpired(
  { tables, onCleaned, onError }: CleanupOptions,
  isStopped: () => boolean,
): Promise<void> {
  for (const each of tables) {
    if (isStopped()) return
    try {
      onCleaned(await clean(each, isStopped))
    } catch (error) {
      onError(error, each.table)
    }
  }
}

async function clean(table: ExpiringRows, isStopped: () => boolean): Promise<Cleaned> {
  const began = performance.now()
  let removed = 0
  let more = true
  for (let count = 0; more && count < batchesPerRound && !isStopped(); count += 1) {
    const now = await table.removeExpired(batch)
    removed += now
    more = now === batch
  }
  const backlog = more && !isStopped() ? await table.countExpired(mostCounted) : 0
  return { table: table.table, removed, seconds: (performance.now() - began) / 1000, backlog }
}
