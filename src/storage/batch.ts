import { setImmediate } from 'node:timers/promises'

/** Items of one statement: enough for a crowd, and few enough for one plan and one packet. */
const limit = 500

/**
 * Runs what many requests ask for at once as few statements: what comes in one turn goes together,
 * and while one statement is on its way, new callers wait for the next. One that waits for a
 * lock keeps the others waiting: statements here hold theirs for no longer than a commit takes.
 *
 * @param run - answers a list of items by a list of results, in the same order. When it fails, it
 *   fails for all of them.
 */
export function createBatch<Item, Result>(
  run: (items: readonly Item[]) => Promise<readonly Result[]>,
): (item: Item) => Promise<Result> {
  const waiting: {
    item: Item
    resolve: (result: Result) => void
    reject: (error: unknown) => void
  }[] = []
  let running = false

  async function runAll() {
    running = true
    while (waiting.length > 0) {
      await setImmediate()
      const batch = waiting.splice(0, limit)
      try {
        const results = await run(batch.map(({ item }) => item))
        for (const [at, { resolve }] of batch.entries()) resolve(results[at] as Result)
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
    running = false
  }

  return (item) =>
    new Promise((resolve, reject) => {
      waiting.push({ item, resolve, reject })
      if (!running) void runAll()
    })
}
