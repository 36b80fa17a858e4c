import test, { type ExecutionContext } from 'ava'
import Koa from 'koa'
import { guardedRoutes, limitRefusals } from '../../src/http/refusal-limit.ts'
import { onRoutes } from '../../src/http/routing.ts'
import type { Limiter } from '../../src/storage/limiter.ts'
import { routed } from '../support/routed.ts'
import { serve } from '../support/serve.ts'

interface Answer {
  status: number
  body?: object
}

/** A server that answers what it is told, and refuses a network after three refusals. */
async function start(t: ExecutionContext, answer: () => Answer) {
  const state = { now: 0, taken: 0, limited: 0 }
  const limiter: Limiter = {
    take: async () => {
      state.taken += 1
      return state.taken > 3 ? 60 : undefined
    },
    blocked: () => undefined,
    giveBack: async () => {},
    has: async () => false,
    forget: async () => {},
  }
  const app = new Koa()
  app.use((ctx, next) => {
    ctx.state.address = ctx.get('x-from') || '192.0.2.7'
    return next()
  })
  const limit = limitRefusals({
    make: () => limiter,
    onLimited: () => {
      state.limited += 1
    },
    now: () => state.now,
  })
  app.use(routed())
  app.use(onRoutes(guardedRoutes, limit))
  app.use((ctx) => {
    const { status, body = {} } = answer()
    ctx.status = status
    ctx.body = body
  })
  const origin = await serve(t, app)
  return {
    state,
    post: (path = '/token', headers = {}, method = 'POST') =>
      fetch(origin + path, { method, headers }),
  }
}

const refused = () => ({ status: 401, body: { error: 'invalid_client' } })

test('refusals use the count up, and then it is 429 with the time to wait', async (t) => {
  const { post, state } = await start(t, refused)
  for (let count = 0; count < 4; count += 1) t.is((await post()).status, 401)
  const answer = await post()
  t.is(answer.status, 429)
  t.is(answer.headers.get('retry-after'), '60')
  t.is(((await answer.json()) as { error: string }).error, 'temporarily_unavailable')
  t.is(state.limited, 1)
})

test('when the time is over, requests are heard again', async (t) => {
  const { post, state } = await start(t, refused)
  for (let count = 0; count < 5; count += 1) await post()
  state.now = 60_001
  t.is((await post()).status, 401)
})

test('another network is not affected', async (t) => {
  const { post } = await start(t, refused)
  for (let count = 0; count < 5; count += 1) await post()
  t.is((await post('/token', { 'x-from': '192.0.2.8' })).status, 401)
})

test('successes count for nothing', async (t) => {
  const { post, state } = await start(t, () => ({ status: 200 }))
  await post()
  t.is(state.taken, 0)
})

for (const error of ['use_dpop_nonce', 'authorization_pending']) {
  test(`${error} counts for nothing`, async (t) => {
    const { post, state } = await start(t, () => ({ status: 400, body: { error } }))
    await post()
    t.is(state.taken, 0)
  })
}

test('a device that asks too often is refused', async (t) => {
  const { post, state } = await start(t, () => ({ status: 400, body: { error: 'slow_down' } }))
  await post()
  t.is(state.taken, 1)
})

test('our own failures count for nothing', async (t) => {
  const { post, state } = await start(t, () => ({ status: 503 }))
  await post()
  t.is(state.taken, 0)
})

for (const [method, path] of [
  ['POST', '/par'],
  ['POST', '/introspect'],
  ['POST', '/revoke'],
  ['POST', '/register'],
  ['PUT', '/register/x'],
  ['POST', '/device_authorization'],
] as const) {
  test(`${method} ${path} is limited as well`, async (t) => {
    const { post, state } = await start(t, refused)
    await post(path, {}, method)
    t.is(state.taken, 1)
  })
}

test('neither a preflight nor another spelling of a route is counted', async (t) => {
  const { post, state } = await start(t, refused)
  await post('/token', {}, 'OPTIONS')
  await post('/TOKEN')
  t.is(state.taken, 0)
})

test('what people and relying parties read is not limited', async (t) => {
  const { post, state } = await start(t, refused)
  await post('/session/end')
  t.is(state.taken, 0)
})
