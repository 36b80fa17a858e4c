import test from 'ava'
import {
  fewestRequests,
  judge,
  type MemorySample,
  mostMegabytes,
  riseOfHeld,
  riseOfResident,
  type Soaked,
} from './judge.ts'

/** A sample for each 500 requests of a run. */
function run(
  megabytes: (requests: number, at: number) => number,
  { requests: end = 40_000 } = {},
): MemorySample[] {
  return Array.from({ length: end / 500 }, (_, at) => {
    const requests = (at + 1) * 500
    return { requests, megabytes: megabytes(requests, at) }
  })
}

/** Megabytes of a leak of so many bytes a request. */
const leak = (requests: number, bytes = 1000) => (requests * bytes) / 1e6

/** What V8 has before it collects, and after. */
const sawtooth = (at: number) => 30 * ((at % 7) / 7)

const good: Soaked = {
  held: run((_, at) => 50 + (at % 3) / 10),
  resident: [run(() => 200), run(() => 210)],
  tables: [{ table: 'artifacts', rows: 1000, left: 0, megabytes: 2 }],
  violations: [],
  answers: { 200: 5000, 303: 100, 400: 1000 },
}

const failures = (changes: Partial<Soaked>) =>
  Object.entries(judge({ ...good, ...changes })).flatMap(([name, held]) => (held ? [] : [name]))

test('a run in which nothing went wrong passes', (t) => t.deepEqual(failures({}), []))

test('what is held may move by a megabyte', (t) => {
  t.deepEqual(failures({ held: run((requests) => 50 + (requests > 30_000 ? 1 : 0)) }), [])
})

test('what many requests at once hold for a moment does not count', (t) => {
  t.deepEqual(failures({ held: run((requests) => 50 + (requests === 38_000 ? 30 : 0)) }), [])
})

test('memory that is taken while a node warms up does not count', (t) => {
  const warming = (requests: number) => 50 * Math.min(1, requests / 20_000)
  const changes = { held: run((requests) => 20 + warming(requests)) }
  t.is(riseOfHeld(changes.held), 0)
  const resident = [run((requests) => 150 + warming(requests))]
  t.is(riseOfResident(resident[0] ?? []), 0)
  t.deepEqual(failures({ ...changes, resident }), [])
})

test('a kilobyte of each request that stays is seen where garbage is collected', (t) => {
  t.deepEqual(failures({ held: run((requests) => 50 + leak(requests)) }), ['held_memory_flat'])
})

test('a quarter of it is seen as well', (t) => {
  t.deepEqual(failures({ held: run((requests) => 50 + leak(requests, 250)) }), ['held_memory_flat'])
})

test('it is seen in the shortest run that is judged', (t) => {
  const held = run((requests) => 50 + leak(requests), { requests: 4 * fewestRequests })
  t.deepEqual(failures({ held }), ['held_memory_flat'])
})

test('it is seen in one resident set of several', (t) => {
  const leaking = run((requests) => 200 + leak(requests))
  t.deepEqual(failures({ resident: [...good.resident, leaking] }), ['resident_set_at_rest'])
})

test('it is seen in a resident set that sinks now and then', (t) => {
  const leaking = run((requests, at) => 170 + sawtooth(at) + leak(requests))
  t.deepEqual(failures({ resident: [leaking] }), ['resident_set_at_rest'])
})

test('a resident set that moves below its highest mark is at rest', (t) => {
  t.deepEqual(failures({ resident: [run((_, at) => 170 + sawtooth(at))] }), [])
  const idle = run((requests) => (requests > 15_000 && requests < 31_000 ? 120 : 200))
  t.deepEqual(failures({ resident: [idle] }), [])
})

test('a resident set above its bound fails, at rest or not', (t) => {
  t.deepEqual(failures({ resident: [run(() => mostMegabytes + 1)] }), ['resident_set_bounded'])
})

test('memory that is given back passes', (t) => {
  const shrinking = (requests: number) => 200 - leak(requests)
  t.deepEqual(failures({ held: run(shrinking), resident: [run(shrinking)] }), [])
})

test('a run that is too short fails for that, whatever its memory does', (t) => {
  const short = run(() => 50, { requests: 4 * fewestRequests - 500 })
  t.deepEqual(failures({ held: short }), ['requests_enough_to_judge_memory'])
  t.deepEqual(failures({ resident: [short] }), ['requests_enough_to_judge_memory'])
})

test('a run that saw nothing proves nothing', (t) => {
  const one = [{ requests: 40_000, megabytes: 50 }]
  for (const held of [[], one]) t.true(failures({ held }).includes('held_memory_flat'))
  for (const resident of [[], [[]], [one]]) {
    t.true(failures({ resident }).includes('resident_set_at_rest'))
  }
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
