import test from 'ava'
import { floorGrowth, judge, type Soaked, slope } from './judge.ts'

const flat = Array.from({ length: 31 }, (_, at) => ({
  minute: at / 10,
  megabytes: 150,
  resident: 300 + at,
}))

const good: Soaked = {
  memory: [flat, flat],
  tables: [{ table: 'artifacts', rows: 1000, left: 0, megabytes: 2 }],
  violations: [],
  answers: { 200: 5000, 303: 100, 400: 1000 },
}

const failures = (changes: Partial<Soaked>) =>
  Object.entries(judge({ ...good, ...changes })).flatMap(([name, held]) => (held ? [] : [name]))

test('a run in which nothing went wrong passes', (t) => t.deepEqual(failures({}), []))

test('memory that is taken while a node warms up does not count', (t) => {
  const warming = flat.map(({ minute, megabytes, resident }) => ({
    minute,
    resident,
    megabytes: minute < 1 ? megabytes - 50 * (1 - minute) : megabytes,
  }))
  t.is(
    slope(warming, ({ megabytes }) => megabytes),
    0,
  )
  t.true(Math.abs(slope(warming, ({ resident }) => resident) - 10) < 1e-6)
})

test('one node that takes three megabytes a minute fails, garbage or not', (t) => {
  for (const garbage of [0, 90]) {
    const leaking = flat.map(({ minute, ...rest }, at) => ({
      ...rest,
      minute,
      megabytes: 150 + 3 * minute + garbage * ((at % 7) / 7),
    }))
    t.true(floorGrowth(leaking) > 2)
    t.deepEqual(failures({ memory: [flat, leaking] }), ['memory_flat'])
  }
})

test('garbage that is collected late passes', (t) => {
  const sawtooth = flat.map(({ minute, ...rest }, at) => ({
    ...rest,
    minute,
    megabytes: 150 + 90 * ((at % 7) / 7),
  }))
  t.is(floorGrowth(sawtooth), 0)
  t.deepEqual(failures({ memory: [sawtooth] }), [])
})

test('memory that is given back passes', (t) => {
  const shrinking = flat.map(({ minute, ...rest }) => ({
    ...rest,
    minute,
    megabytes: 150 - 3 * minute,
  }))
  t.deepEqual(failures({ memory: [shrinking] }), [])
})

test('a run that saw nothing proves nothing', (t) => {
  t.deepEqual(failures({ memory: [flat.slice(0, 1)] }), ['memory_flat'])
  t.deepEqual(failures({ memory: [] }), ['memory_flat'])
  t.deepEqual(failures({ tables: [] }), ['tables_hold_live_rows_only'])
  t.deepEqual(failures({ answers: {} }), ['every_request_answered'])
})

test('a row that cleanup left fails', (t) => {
  const tables = [{ table: 'replay_marks', rows: 10, left: 1, megabytes: 1 }]
  t.deepEqual(failures({ tables }), ['tables_hold_live_rows_only'])
})

for (const status of ['500', '503', 'network']) {
  test(`an answer ${status} fails`, (t) => {
    t.deepEqual(failures({ answers: { ...good.answers, [status]: 1 } }), ['every_request_answered'])
  })
}

test('a violation fails', (t) => {
  t.deepEqual(failures({ violations: ['one proof was good twice'] }), [
    'nothing_used_twice_and_nothing_lost',
  ])
})
