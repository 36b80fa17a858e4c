import { once } from 'node:events'
import { connect } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import Koa from 'koa'
import { type ShedLoadOptions, shedLoad } from '../../src/http/shed-load.ts'
import { routed } from '../support/routed.ts'
import { serve } from '../support/serve.ts'
import { until } from '../support/until.ts'

/** A node whose requests end when they are told to. */
async function start(t: ExecutionContext, options: Partial<ShedLoadOptions> = {}) {
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  const shed: string[] = []
  let begun = 0
  const shedding = shedLoad({
    issuer: 'https://id.example',
    longestWaitMs: 400,
    poolWaitMs: () => 0,
    onShed: (kind) => shed.push(kind),
    page: () => '<p>a page</p>',
    holdMs: () => 0,
    ...options,
  })
  t.teardown(() => shedding[Symbol.dispose]())
  const app = Object.assign(new Koa(), { silent: true })
    .use(routed())
    .use(shedding.middleware)
    .use(async (ctx) => {
      begun += 1
      for await (const _ of ctx.req);
      if (ctx.query.hold !== undefined) await released
      ctx.body = 'done'
    })
  const origin = await serve(t, app)
  const ask = (path: string, init?: RequestInit) =>
    fetch(`${origin}${path}`, { method: 'POST', ...init })
  async function hold(path: string, count: number) {
    const before = begun
    const held = Array.from({ length: count }, () => ask(`${path}?hold`))
    await until(async () => begun === before + count)
    return held
  }
  return { origin, ask, hold, release, shed, begun: () => begun }
}

const busy = { poolWaitMs: () => 1000 }
const statusOf = async (answer: Promise<Response>) => (await answer).status

test('refuses what a busy node could not serve in time, and serves again at once', async (t) => {
  const { ask, hold, release, shed } = await start(t, busy)
  const held = await hold('/token', 16)
  await until(async () => (await statusOf(ask('/token'))) === 503)
  t.true(shed.every((kind) => kind === 'tokens'))
  const { headers } = await ask('/token', { headers: { origin: 'https://app.example' } })
  t.is(headers.get('access-control-allow-origin'), '*')
  t.is(headers.get('access-control-expose-headers'), 'Retry-After')
  release()
  t.deepEqual(await Promise.all(held.map(statusOf)), Array(16).fill(200))
  t.is(await statusOf(ask('/token')), 200)
})

test('refuses sign-ins while it serves tokens, and health always', async (t) => {
  const { ask, hold, release } = await start(t, busy)
  const held = await hold('/authorize', 8)
  await until(async () => (await statusOf(ask('/authorize'))) === 503)
  t.is(await statusOf(ask('/token')), 200)
  t.is(await statusOf(ask('/token/')), 503)
  t.is(await statusOf(ask('/readyz', { method: 'GET' })), 200)
  release()
  await Promise.all(held)
})

test('holds a bounded number of refusals back, and closes the connections of others', async (t) => {
  const { ask, hold, release } = await start(t, { ...busy, holdMs: () => 500, mostHeld: 2 })
  const held = await hold('/token', 16)
  await until(async () => (await statusOf(ask('/token'))) === 503)
  const refused = await Promise.all(Array.from({ length: 20 }, () => ask('/token')))
  t.true(refused.every(({ status }) => status === 503))
  const closing = refused.filter(({ headers }) => headers.get('connection') === 'close')
  t.true(closing.length > 0 && closing.length < 20)
  release()
  await Promise.all(held)
})

test('answers people with a page, and clients with JSON', async (t) => {
  const { ask, hold, release } = await start(t, busy)
  const held = await hold('/authorize', 8)
  await until(async () => (await statusOf(ask('/authorize'))) === 503)
  const page = await ask('/authorize', { headers: { accept: 'text/html' } })
  t.is(await page.text(), '<p>a page</p>')
  t.regex(page.headers.get('content-security-policy') ?? '', /default-src 'none'/)
  const answer = await ask('/authorize', { headers: { accept: '*/*' } })
  t.is(((await answer.json()) as { error: string }).error, 'temporarily_unavailable')
  release()
  await Promise.all(held)
})

test('passwords in their queue keep nothing else out', async (t) => {
  const { ask, hold, release } = await start(t, busy)
  const held = await hold('/interaction/x/login', 100)
  t.is(await statusOf(ask('/authorize')), 200)
  release()
  await Promise.all(held)
})

test('requests whose bodies never come keep nothing out', async (t) => {
  const { origin, ask, begun } = await start(t, { poolWaitMs: () => 1000 })
  const { hostname, port } = new URL(origin)
  const sockets = Array.from({ length: 40 }, () => {
    const socket = connect(Number(port), hostname)
    socket.write('POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n')
    return socket
  })
  await Promise.all(sockets.map((socket) => once(socket, 'connect')))
  await until(async () => begun() >= 16)
  await until(async () => (await statusOf(ask('/token'))) === 200)
  for (const socket of sockets) socket.destroy()
  t.pass()
})
