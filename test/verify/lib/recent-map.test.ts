import test from 'ava'
import { RecentMap } from '../../../packages/verify/lib/recent-map.ts'

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

test('keeps no more bytes than allowed, and no value that is larger alone', (t) => {
  const map = new RecentMap<string>(1000, 100, (_key, value) => value.length)
  for (let i = 0; i < 50; i++) map.set(`${i}`, 'x'.repeat(30))
  const kept = Array.from({ length: 50 }, (_, i) => map.get(`${i}`) !== undefined).filter(Boolean)
  t.true(kept.length >= 3 && kept.length <= 6, `${kept.length}`)
  map.set('large', 'x'.repeat(101))
  t.is(map.get('large'), undefined)
  t.is(map.get('49'), 'x'.repeat(30))
})

test('counts the bytes of what was replaced or deleted no longer', (t) => {
  const map = new RecentMap<string>(1000, 100, (_key, value) => value.length)
  map.set('kept', 'x'.repeat(30))
  for (let i = 0; i < 50; i++) {
    map.set('replaced', 'x'.repeat(60))
    map.set('deleted', 'x')
    map.delete('deleted')
  }
  t.is(map.get('kept'), 'x'.repeat(30))
})

test('replaces an entry without making room for it', (t) => {
  const map = new RecentMap<number>(2)
  map.set('a', 1)
  map.set('b', 1)
  for (let i = 0; i < 9; i++) map.set('a', i)
  t.is(map.get('a'), 8)
  t.is(map.get('b'), 1)
})
