// Loaded by ava before each test file.
import test, { registerCompletionHandler } from 'ava'

/*
 * ava starts all tests of a file at once. On a busy machine each would then wait for all others, and
 * connections and codes end before their turn has come.
 */
const mostAtOnce = 8
let running = 0
const waiting: (() => void)[] = []

test.beforeEach(async () => {
  if (running < mostAtOnce) running += 1
  else await new Promise<void>((begin) => waiting.push(begin))
})

test.afterEach.always(() => {
  const next = waiting.shift()
  if (next) next()
  else running -= 1
})

/*
 * ava waits without end for a process that keeps something open after its last test. Here it fails
 * by name instead.
 */
const patienceMs = 10_000

registerCompletionHandler(() => {
  setTimeout(() => {
    const open = process.getActiveResourcesInfo().join(', ')
    process.stderr.write(`The tests of this file are over, and it keeps open: ${open}\n`)
    process.exit(1)
  }, patienceMs).unref()
})
