import test from 'ava'
import { startKeyRotation } from '../../src/keys/key-rotation.ts'

test('goes on after an error, and ends when it is told to', async (t) => {
  const errors: unknown[] = []
  const failure = new Error('the database is away')
  const { promise: refreshed, resolve: onRefreshed } = Promise.withResolvers<void>()
  let reads = 0
  let upkeeps = 0
  const rotation = startKeyRotation({
    ring: {
      async refresh() {
        reads += 1
        if (reads < 3) throw failure
      },
      async upkeep() {
        upkeeps += 1
      },
    },
    interval: 1,
    onRefreshed,
    onError: (error) => errors.push(error),
  })
  // Its timer keeps no process alive.
  const alive = setInterval(() => {}, 1000)
  await refreshed
  clearInterval(alive)
  await rotation[Symbol.asyncDispose]()
  t.deepEqual(errors, [failure, failure])
  const before = [reads, upkeeps]
  t.is(reads - upkeeps, 2)
  await new Promise(setImmediate)
  t.deepEqual([reads, upkeeps], before)
})

test('ends a round that has begun, and no later one', async (t) => {
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>()
  let upkeeps = 0
  const rotation = startKeyRotation({
    ring: {
      refresh() {
        begin()
        return answered
      },
      async upkeep() {
        upkeeps += 1
      },
    },
    interval: 3_600_000,
    onRefreshed() {},
    onError: (error) => t.fail(String(error)),
  })
  await begun
  const ended = rotation[Symbol.asyncDispose]()
  answer()
  await ended
  t.is(upkeeps, 1)
})
