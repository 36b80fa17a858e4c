import { setTimeout } from 'node:timers/promises'
import type { ExpiringRows } from './expiring-rows.ts'

/** Rows removed by one statement: few enough to hold locks for milliseconds. */
const batch = 1000

/**
 * After a batch a node waits for three times as long as it took: while there is a backlog, cleanup
 * has a quarter of the time of one connection, and fewer rows of a database that is busy.
 */
const pauseFactor = 3

/** Rounds after which one begins with the oldest row again: for rows that were passed over. */
const roundsBetweenFull = 60

/** As far as expired rows are counted that are left. */
const countLimit = 1_000_000

/** What was done to one table since the last report. */
export interface Cleaned {
  readonly table: string
  readonly removed: number
  /** Time of its statements. */
  readonly seconds: number
  /** Expired rows that are left. */
  readonly backlog: number
}

export interface CleanupOptions {
  readonly tables: readonly ExpiringRows[]
  /** Milliseconds between the beginnings of two rounds, and between two reports of a longer one. */
  readonly interval: number
  readonly onCleaned: (cleaned: Cleaned) => void
  readonly onError: (error: unknown, table: string) => void
  readonly now?: () => number
  /** Resolves after a time, or when the signal aborts. */
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>
}

/**
 * Removes expired rows now and then every `interval` milliseconds, batch after batch until none is
 * left. Tables take turns: the backlog of one does not hold up the others, and one that fails is
 * reported and waits for the next round. Expired rows are never found by any query, so a late cleanup
 * costs space only.
 */
export function startCleanup(options: CleanupOptions): AsyncDisposable {
  const { now = () => performance.now(), sleep = wait, interval, onError } = options
  const stopped = new AbortController()
  const tables = options.tables.map((rows) => cleanTable(rows, options, now))
  const due = new Set<(typeof tables)[number]>()
  let rounds = 0
  let working: Promise<void> | undefined

  async function work() {
    // A table that is added again is the last of them.
    for (const table of due) {
      if (stopped.signal.aborted) return
      due.delete(table)
      const began = now()
      try {
        if (await table.removeBatch()) due.add(table)
      } catch (error) {
        onError(error, table.name)
      }
      await sleep((now() - began) * pauseFactor, stopped.signal)
    }
  }

  function start() {
    const isFull = rounds % roundsBetweenFull === 0
    rounds += 1
    for (const table of tables) {
      if (isFull) table.restart()
      due.add(table)
    }
    working ??= work().finally(() => {
      working = undefined
    })
  }

  start()
  const timer = setInterval(start, interval)
  timer.unref()
  return {
    async [Symbol.asyncDispose]() {
      stopped.abort()
      clearInterval(timer)
      await working
    },
  }
}

function cleanTable(
  rows: ExpiringRows,
  { interval, onCleaned }: CleanupOptions,
  now: () => number,
) {
  let from: string | undefined
  let removed = 0
  let seconds = 0
  let reportedAt = now()

  async function report(isLeft: boolean) {
    const backlog = isLeft ? await rows.countExpired(countLimit, from) : 0
    onCleaned({ table: rows.table, removed, seconds, backlog })
    removed = 0
    seconds = 0
    reportedAt = now()
  }

  return {
    name: rows.table,
    /** Begins with the oldest row. */
    restart() {
      from = undefined
    },
    /** @returns whether there may be more. */
    async removeBatch(): Promise<boolean> {
      const began = now()
      const done = await rows.removeExpired(batch, from)
      seconds += (now() - began) / 1000
      removed += done.rows
      from = done.until ?? from
      const isLeft = done.rows === batch
      if (!isLeft || now() - reportedAt >= interval) await report(isLeft)
      return isLeft
    },
  }
}

function wait(ms: number, signal: AbortSignal): Promise<void> {
  return setTimeout(ms, undefined, { signal, ref: false }).catch(() => {})
}
