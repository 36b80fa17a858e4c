import test from 'ava'
import { accepts, capacity, loopDelay, workAtRest } from '../../src/limits/overload.ts'

const work = { active: 100, perSecond: 500 }
const idle = { loopDelayMs: 0, poolWaitMs: 0 }

test('accepts what will wait for less than it may', (t) => {
  t.true(accepts('tokens', work, idle, 400))
})

test('refuses more work than can be finished in time', (t) => {
  t.false(accepts('tokens', { ...work, active: 200 }, idle, 400))
})

for (const delay of ['loopDelayMs', 'poolWaitMs'] as const) {
  test(`refuses when ${delay} is longer than a request may wait`, (t) => {
    t.true(accepts('tokens', work, { ...idle, [delay]: 399 }, 400))
    t.false(accepts('tokens', work, { ...idle, [delay]: 400 }, 400))
  })
}

test('refuses sign-ins before tokens', (t) => {
  const busy = { ...idle, loopDelayMs: 300 }
  t.true(accepts('tokens', work, busy, 400))
  t.false(accepts('sign-ins', work, busy, 400))
})

test('accepts a few requests however long the delay seems', (t) => {
  const stuck = { loopDelayMs: 60_000, poolWaitMs: 60_000 }
  t.true(accepts('tokens', { active: 15, perSecond: 1 }, stuck, 400))
  t.false(accepts('tokens', { active: 16, perSecond: 1 }, stuck, 400))
  t.true(accepts('sign-ins', { active: 7, perSecond: 1 }, stuck, 400))
})

test('learns what a busy node finishes, and nothing from an idle one', (t) => {
  const measured = { finished: 100, elapsedMs: 100 }
  t.is(capacity('tokens', { active: 200, perSecond: 200 }, measured), 600)
  t.is(capacity('tokens', { active: 1, perSecond: 200 }, { finished: 1, elapsedMs: 100 }), 200)
  t.is(capacity('tokens', { active: 200, perSecond: 1 }, { finished: 0, elapsedMs: 100 }), 1)
  t.is(workAtRest('tokens').active, 0)
})

test('a long delay of the event loop fades', (t) => {
  t.is(loopDelay(0, 900), 800)
  t.is(loopDelay(800, 100), 400)
})
