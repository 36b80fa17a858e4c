import test from 'ava'
import { RecentMap } from '../../../src/verify/lib/recent-map.ts'

test('keeps as many entries as promised, and forgets the rest', (t) => {
  const map = new RecentMap<number>(3)
  for (let i = 0; i < 10; i++) map.set(`${i}`, i)
  for (const i of [7, 8, 9]) t.is(map.get(`${i}`), i)
  t.is(map.get('0'), undefined)
})

test('keeps what is used', (t) => {
  const map = new RecentMap<number>(3)
  map.set('used', 1)
  for (let i = 0; i < 100; i++) {
    map.set(`${i}`, i)
    t.is(map.get('used'), 1)
  }
})

test('replaces an entry without making room for it', (t) => {
  const map = new RecentMap<number>(2)
  map.set('a', 1)
  map.set('b', 1)
  for (let i = 0; i < 9; i++) map.set('a', i)
  t.is(map.get('a'), 8)
  t.is(map.get('b'), 1)
})
