import test from 'ava'
import { accepts, capacity, loopDelay, workAtRest } from '../../src/limits/overload.ts'

const work = { active: 100, begun: 20, perSecond: 500 }
const idle = { loopDelayMs: 0, poolWaitMs: 0, tokensAreRefused: false }

test('accepts what will wait for less than it may', (t) => {
  t.true(accepts('tokens', work, idle, 400))
})

test('refuses more work than can be finished in time', (t) => {
  t.false(accepts('tokens', { ...work, active: 200 }, idle, 400))
})

test('refuses when a request would wait for too long for the database', (t) => {
  t.true(accepts('tokens', work, { ...idle, poolWaitMs: 399 }, 400))
  t.false(accepts('tokens', work, { ...idle, poolWaitMs: 400 }, 400))
})

test('refuses when the turns of the event loop that a request takes are too long', (t) => {
  t.true(accepts('tokens', work, { ...idle, loopDelayMs: 133 }, 400))
  t.false(accepts('tokens', work, { ...idle, loopDelayMs: 134 }, 400))
})

test('refuses sign-ins before tokens', (t) => {
  const busy = { ...idle, poolWaitMs: 300 }
  t.true(accepts('tokens', work, busy, 400))
  t.false(accepts('sign-ins', work, busy, 400))
})

test('has sign-ins make way while tokens are refused, but for a few', (t) => {
  const making = { ...idle, tokensAreRefused: true }
  t.false(accepts('sign-ins', { active: 1, begun: 0, perSecond: 500 }, making, 400))
  t.true(accepts('sign-ins', { active: 0, begun: 1, perSecond: 500 }, making, 400))
  t.false(accepts('sign-ins', { active: 0, begun: 2, perSecond: 500 }, making, 400))
  t.true(accepts('tokens', work, making, 400))
})

test('accepts a few requests in work and between two measurements, however long the delay', (t) => {
  const stuck = { loopDelayMs: 60_000, poolWaitMs: 60_000, tokensAreRefused: false }
  t.true(accepts('tokens', { active: 15, begun: 31, perSecond: 1 }, stuck, 400))
  t.false(accepts('tokens', { active: 16, begun: 0, perSecond: 1 }, stuck, 400))
  t.false(accepts('tokens', { active: 0, begun: 32, perSecond: 1 }, stuck, 400))
  t.true(accepts('sign-ins', { active: 7, begun: 0, perSecond: 1 }, stuck, 400))
})

test('learns what a busy node finishes, and nothing from an idle one', (t) => {
  const measured = { finished: 100, elapsedMs: 100 }
  t.is(capacity('tokens', { active: 200, perSecond: 200 }, measured), 280)
  t.is(capacity('tokens', { active: 200, perSecond: 200 }, { finished: 100, elapsedMs: 2000 }), 50)
  t.is(capacity('tokens', { active: 1, perSecond: 200 }, { finished: 1, elapsedMs: 100 }), 200)
  t.is(capacity('tokens', { active: 200, perSecond: 1 }, { finished: 0, elapsedMs: 100 }), 1)
  t.is(workAtRest('tokens').active, 0)
})

test('a long delay of the event loop fades', (t) => {
  t.is(loopDelay(0, 900), 800)
  t.is(loopDelay(800, 100), 400)
})
