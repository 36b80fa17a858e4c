import test, { type ExecutionContext } from 'ava'
import Koa from 'koa'
import { errorPages } from '../../src/http/error-pages.ts'
import {
  guardedRoutes,
  limitEdgeRefusals,
  limitRefusals,
  limitRequests,
} from '../../src/http/network-limit.ts'
import { onRoutes } from '../../src/http/routing.ts'
import { createNetworkLimit } from '../../src/limits/network-limit.ts'
import { english } from '../../src/pages/messages.ts'
import { PageError } from '../../src/pages/page-error.ts'
import { routed } from '../support/routed.ts'
import { serve } from '../support/serve.ts'

interface Answer {
  status: number
  body?: object
}

/** A server that answers what it is told, and limits a network to three requests a minute. */
async function start(t: ExecutionContext, answer: () => Answer) {
  const state = { now: 0, taken: 0, limited: 0 }
  const counted = createNetworkLimit({ perMinute: 3, now: () => state.now })
  const limit = {
    wait: counted.wait,
    take: (address: string) => {
      state.taken += 1
      return counted.take(address)
    },
  }
  const onLimited = () => {
    state.limited += 1
  }
  const app = new Koa()
  app.use((ctx, next) => {
    ctx.state.address = ctx.get('x-from') || '192.0.2.7'
    return next()
  })
  app.use(routed())
  app.use(errorPages({ render: ({ heading }) => `<h1>${english.text(heading)}</h1>` }))
  app.use(limitEdgeRefusals({ limit, onLimited }))
  app.use(onRoutes(guardedRoutes, limitRefusals({ limit, onLimited })))
  const isKnown = (ctx: Koa.Context) => ctx.get('x-known') !== ''
  app.use(onRoutes(['authorize'], limitRequests({ limit, onLimited, isKnown })))
  app.use((ctx) => {
    if (ctx.get('client-cert')) throw new PageError('invalid_client_certificate_header', '')
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
  for (let count = 0; count < 3; count += 1) t.is((await post()).status, 401)
  const answer = await post()
  t.is(answer.status, 429)
  t.is(answer.headers.get('retry-after'), '20')
  t.is(((await answer.json()) as { error: string }).error, 'temporarily_unavailable')
  t.is(state.limited, 1)
})

test('scripts may read when to come back, at routes that they may call', async (t) => {
  const { post } = await start(t, refused)
  const origin = { origin: 'https://app.example' }
  for (let count = 0; count < 3; count += 1) await post('/token', origin)
  for (const [path, allowed] of [
    ['/token', '*'],
    ['/par', '*'],
    ['/register', null],
  ] as const) {
    const { status, headers } = await post(path, origin)
    t.is(status, 429)
    t.is(headers.get('access-control-allow-origin'), allowed)
    t.is(headers.get('access-control-expose-headers'), allowed && 'Retry-After')
  }
})

test('when the time is over, requests are heard again', async (t) => {
  const { post, state } = await start(t, refused)
  for (let count = 0; count < 5; count += 1) await post()
  state.now = 20_001
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
  ['GET', '/register/x'],
  ['PUT', '/register/x'],
  ['DELETE', '/register/x'],
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

test('limits authorization requests, and tells people so in a page', async (t) => {
  const { post, state } = await start(t, () => ({ status: 200 }))
  for (let count = 0; count < 3; count += 1) t.is((await post('/authorize')).status, 200)
  const page = await post('/authorize', { accept: 'text/html' }, 'GET')
  t.is(page.status, 429)
  t.is(page.headers.get('retry-after'), '20')
  t.is(page.headers.get('cache-control'), 'no-store')
  t.is(await page.text(), '<h1>Too many requests</h1>')
  t.is(state.limited, 1)
  t.is((await post('/authorize', { 'x-known': 'yes' })).status, 200)
  t.is((await post('/authorize', { 'x-from': '192.0.2.8' })).status, 200)
})

test('answers 429 to what the edge refuses, and serves the rest of the network', async (t) => {
  const { post, state } = await start(t, () => ({ status: 200 }))
  const forged = { 'client-cert': ':x:' }
  for (let count = 0; count < 3; count += 1) t.is((await post('/token', forged)).status, 400)
  t.is((await post('/jwks', forged, 'GET')).status, 429)
  t.is(state.limited, 1)
  t.is((await post('/jwks', {}, 'GET')).status, 200)
})
