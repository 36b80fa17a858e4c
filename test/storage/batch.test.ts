import test from 'ava'
import { createBatch } from '../../src/storage/batch.ts'

function createWorld() {
  const sent: {
    items: readonly string[]
    answer: (results: string[]) => void
    fail: () => void
  }[] = []
  const run = createBatch(
    (items: readonly string[]) =>
      new Promise<string[]>((answer, reject) => {
        sent.push({ items, answer, fail: () => reject(new Error('lost')) })
      }),
  )
  return { run, sent }
}

test('alone, an item goes at the end of the turn', async (t) => {
  const { run, sent } = createWorld()
  const result = run('a')
  t.is(sent.length, 0)
  await undefined
  t.deepEqual(sent[0]?.items, ['a'])
  sent[0]?.answer(['A'])
  t.is(await result, 'A')
})

test('what comes in one turn goes together', async (t) => {
  const { run, sent } = createWorld()
  const both = [run('a'), run('b')]
  await undefined
  t.deepEqual(sent[0]?.items, ['a', 'b'])
  sent[0]?.answer(['A', 'B'])
  t.deepEqual(await Promise.all(both), ['A', 'B'])
})

test('whoever comes while one is on its way goes together in the next', async (t) => {
  const { run, sent } = createWorld()
  const first = run('a')
  await undefined
  const others = [run('b'), run('c')]
  t.is(sent.length, 1)
  sent[0]?.answer(['A'])
  t.is(await first, 'A')
  t.deepEqual(sent[1]?.items, ['b', 'c'])
  sent[1]?.answer(['B', 'C'])
  t.deepEqual(await Promise.all(others), ['B', 'C'])
})

test('a failure is for those that went together, and the next go on', async (t) => {
  const { run, sent } = createWorld()
  const first = run('a')
  await undefined
  const next = run('c')
  sent[0]?.fail()
  await t.throwsAsync(first, { message: 'lost' })
  sent[1]?.answer(['C'])
  t.is(await next, 'C')
})

test('a crowd goes in parts', async (t) => {
  const { run, sent } = createWorld()
  const first = run('first')
  await undefined
  const crowd = Array.from({ length: 501 }, (_, index) => run(String(index)))
  sent[0]?.answer(['first'])
  await first
  t.is(sent[1]?.items.length, 500)
  sent[1]?.answer(sent[1].items.slice())
  t.is(await crowd[499], '499')
  t.deepEqual(sent[2]?.items, ['500'])
  sent[2]?.answer(['500'])
  t.is(await crowd[500], '500')
})
