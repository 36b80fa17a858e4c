import test from 'ava'
import { createBoundedQueue, QueueFullError } from '../../src/accounts/bounded-queue.ts'

const options = { atOnce: 2, waiting: 3, patienceMs: 60_000 }

/** Work that ends when it is told to. */
function held() {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  return { work: () => promise, resolve, reject }
}

test('does so much at once, and the rest in its order', async (t) => {
  const queue = createBoundedQueue(options)
  const begun: number[] = []
  const works = Array.from({ length: 5 }, held)
  const results = works.map(({ work }, at) =>
    queue.run(() => {
      begun.push(at)
      return work()
    }),
  )
  await Promise.resolve()
  t.deepEqual(begun, [0, 1])
  works[1]?.reject(new Error('failed'))
  await t.throwsAsync(results[1] as Promise<string>, { message: 'failed' })
  t.deepEqual(begun, [0, 1, 2])
  for (const { resolve } of works) resolve('done')
  t.deepEqual(await Promise.all(results.toSpliced(1, 1)), Array(4).fill('done'))
  t.deepEqual(begun, [0, 1, 2, 3, 4])
})

test('refuses at once what is more than may wait', async (t) => {
  const queue = createBoundedQueue(options)
  const { work, resolve } = held()
  const accepted = Array.from({ length: 5 }, () => queue.run(work))
  t.true(queue.isFull())
  await t.throwsAsync(queue.run(work), { instanceOf: QueueFullError })
  resolve('done')
  await Promise.all(accepted)
  t.false(queue.isFull())
})

test('refuses what has waited for too long, and never begins it', async (t) => {
  const queue = createBoundedQueue({ ...options, atOnce: 1, patienceMs: 1 })
  const { work, resolve } = held()
  const first = queue.run(work)
  await t.throwsAsync(
    queue.run(async () => t.fail()),
    { instanceOf: QueueFullError },
  )
  resolve('done')
  t.is(await first, 'done')
  t.is(await queue.run(async () => 'next'), 'next')
})
