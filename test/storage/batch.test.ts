import { setImmediate } from 'node:timers/promises'
import test from 'ava'
import { createBatch } from '../../src/storage/batch.ts'

interface Statement {
  readonly items: readonly string[]
  readonly answer: (results: readonly string[]) => void
  readonly fail: () => void
}

function createWorld() {
  const all: Statement[] = []
  const run = createBatch(
    (items: readonly string[]) =>
      new Promise<readonly string[]>((answer, reject) => {
        all.push({ items, answer, fail: () => reject(new Error('lost')) })
      }),
  )
  /** The statements one after another, when each is sent. */
  async function* send() {
    for (let at = 0; ; ) {
      if (all[at]) yield all[at++] as Statement
      else await setImmediate()
    }
  }
  const statements = send()
  return { run, all, sent: async () => (await statements.next()).value as Statement }
}

test('alone, an item goes at the end of the turn', async (t) => {
  const { run, all, sent } = createWorld()
  const result = run('a')
  t.is(all.length, 0)
  const { items, answer } = await sent()
  t.deepEqual(items, ['a'])
  answer(['A'])
  t.is(await result, 'A')
})

test('what comes in one turn goes together, and so does what follows from it', async (t) => {
  const { run, all, sent } = createWorld()
  const both = ['a', 'b'].map((item) => run(item))
  const then = both.map(async (result) => run(`after ${await result}`))
  const first = await sent()
  t.deepEqual(first.items, ['a', 'b'])
  first.answer(['A', 'B'])
  const second = await sent()
  t.deepEqual(second.items, ['after A', 'after B'])
  second.answer(['C', 'D'])
  t.deepEqual(await Promise.all(then), ['C', 'D'])
  t.is(all.length, 2)
})

test('whoever comes while one is on its way goes together in the next', async (t) => {
  const { run, all, sent } = createWorld()
  const first = run('a')
  const { answer } = await sent()
  const others = [run('b')]
  await setImmediate()
  others.push(run('c'))
  await setImmediate()
  t.is(all.length, 1)
  answer(['A'])
  t.is(await first, 'A')
  const next = await sent()
  t.deepEqual(next.items, ['b', 'c'])
  next.answer(['B', 'C'])
  t.deepEqual(await Promise.all(others), ['B', 'C'])
})

test('a failure is for those that went together, and the next go on', async (t) => {
  const { run, sent } = createWorld()
  const first = run('a')
  const { fail } = await sent()
  const next = run('c')
  fail()
  await t.throwsAsync(first, { message: 'lost' })
  const { answer } = await sent()
  answer(['C'])
  t.is(await next, 'C')
})

test('a crowd goes in parts', async (t) => {
  const { run, sent } = createWorld()
  const crowd = Array.from({ length: 501 }, (_, index) => run(String(index)))
  const most = await sent()
  t.is(most.items.length, 500)
  most.answer(most.items)
  t.is(await crowd[499], '499')
  const rest = await sent()
  t.deepEqual(rest.items, ['500'])
  rest.answer(['500'])
  t.is(await crowd[500], '500')
})
