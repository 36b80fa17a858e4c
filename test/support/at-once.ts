import type { TestFn } from 'ava'

let running = 0
const waiting: (() => void)[] = []
let isLimited = false

/** What of a test file's `test` the helpers that start something for it use. */
export type Hooks = Pick<TestFn, 'serial' | 'after' | 'beforeEach' | 'afterEach'>

/**
 * Lets a number of tests of this file run at once. ava starts all of them: on a busy machine each
 * would wait for all others, and connections and codes would end before their turn.
 */
export function limitTestsAtOnce(test: Hooks, mostAtOnce = 8): void {
  if (isLimited) return
  isLimited = true
  test.beforeEach(async () => {
    if (running < mostAtOnce) running += 1
    else await new Promise<void>((begin) => waiting.push(begin))
  })
  test.afterEach.always(() => {
    const next = waiting.shift()
    if (next) next()
    else running -= 1
  })
}
