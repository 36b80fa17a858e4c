import test from 'ava'
import { createMemoryReplayStore } from '../../packages/verify/replay.ts'

const start = 1_800_000_000

test('knows a mark until it expires, and not longer', (t) => {
  const store = createMemoryReplayStore({ capacity: 100 })
  t.is(store.consume('a', start + 60, start), 'fresh')
  t.is(store.consume('a', start + 60, start), 'replayed')
  t.is(store.consume('a', start + 60, start + 60), 'replayed')
  t.is(store.consume('b', start + 60, start), 'fresh')
  t.is(store.consume('a', start + 120, start + 61), 'fresh')
})

test('keeps a mark through the last fraction of its window', (t) => {
  const store = createMemoryReplayStore({ capacity: 100 })
  t.is(store.consume('a', start + 59.9, start), 'fresh')
  t.is(store.consume('a', start + 59.9, start + 59.9), 'replayed')
})

test('holds its capacity, forgets nothing, and says when it is full', (t) => {
  const capacity = 20_000
  const store = createMemoryReplayStore({ capacity })
  for (let i = 0; i < capacity; i++) t.is(store.consume(`${i}`, start + 60, start), 'fresh')
  let refused = 0
  for (let i = 0; i < capacity; i++)
    if (store.consume(`more ${i}`, start + 60, start) === 'full') refused++
  t.true(refused > capacity / 2)
  for (let i = 0; i < capacity; i++) t.is(store.consume(`${i}`, start + 60, start + 60), 'replayed')
})

test('takes the room of expired marks again, in fixed memory', (t) => {
  const capacity = 2000
  const store = createMemoryReplayStore({ capacity })
  const { bytes } = store
  for (let second = start; second < start + 100; second += 2) {
    for (let i = 0; i < capacity; i++) {
      if (store.consume(`${second} ${i}`, second + 1, second) !== 'fresh') t.fail()
    }
  }
  t.is(store.bytes, bytes)
  t.true(bytes / capacity <= 17)
})

for (const capacity of [0, -1, 1.5, Number.NaN, 1e9]) {
  test(`refuses a capacity of ${capacity}`, (t) => {
    t.throws(() => createMemoryReplayStore({ capacity }), { instanceOf: TypeError })
  })
}
