export interface ExpiringTable {
  removeExpired(limit: number): Promise<number>
}

/** Rows removed by one statement: few enough to hold locks for milliseconds. */
const batch = 1000

/** Batches of one table in one round: what is left waits for the next round. */
const batchesPerRound = 50

/**
 * Removes expired rows now and then every `interval` milliseconds, in bounded batches. Expired
 * rows are never found by any query, so a round that fails is only reported.
 */
export function startCleanup({
  tables,
  interval,
  onError,
}: {
  tables: readonly ExpiringTable[]
  interval: number
  onError: (error: unknown) => void
}): AsyncDisposable {
  let stopped = false
  let round: Promise<void> | undefined
  const start = () => {
    // A round that takes longer than the interval is the next one as well.
    round ??= removeExpired(tables, () => stopped, onError).finally(() => {
      round = undefined
    })
  }
  start()
  const timer = setInterval(start, interval)
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
  tables: readonly ExpiringTable[],
  isStopped: () => boolean,
  onError: (error: unknown) => void,
): Promise<void> {
  for (const table of tables) {
    try {
      for (let count = 0; count < batchesPerRound && !isStopped(); count += 1) {
        if ((await table.removeExpired(batch)) < batch) break
      }
    } catch (error) {
      onError(error)
    }
  }
}
