import test, { type ExecutionContext } from 'ava'
import Koa from 'koa'
import { healthChecks } from '../../src/http/health.ts'
import { createReadiness } from '../../src/http/readiness.ts'
import type { Database } from '../../src/storage/database.ts'
import { DatabaseUnavailableError } from '../../src/storage/database-unavailable.ts'
import { createNodeProbe } from '../../src/storage/node-probe.ts'
import { query } from '../support/query.ts'
import { routed } from '../support/routed.ts'
import { serve } from '../support/serve.ts'
import { useTestServer } from '../support/server.ts'
import { until } from '../support/until.ts'

const server = useTestServer(test)
const day = 24 * 60 * 60

/** A node of the test server's database whose clock is wrong by so many seconds. */
async function startNode(t: ExecutionContext, aheadS: number) {
  const node = { aheadS, elapsed: 0, writes: 0, compared: [] as number[], states: [] as string[] }
  const readiness = createReadiness({
    ping: () => server.storage.ping(),
    async write() {
      node.writes += 1
      return server.storage.probe()
    },
    onCompared: (seconds) => node.compared.push(seconds),
    onClock: (state) => node.states.push(state),
    now: () => Date.now() + node.aheadS * 1000,
    elapsed: () => node.elapsed,
  })
  const app = new Koa().use(routed()).use(healthChecks({ ping: readiness.check, deadline: 20_000 }))
  const origin = await serve(t, app)
  const ask = async () => {
    const answer = await fetch(`${origin}/readyz`)
    return { status: answer.status, body: (await answer.json()) as Record<string, string> }
  }
  return { node, ask }
}

async function expectRefusal(t: ExecutionContext, aheadS: number, reason: RegExp) {
  const { node, ask } = await startNode(t, aheadS)
  const { status, body } = await ask()
  t.is(status, 503)
  t.regex(body.reason ?? '', reason)
  t.deepEqual(node.states, ['wrong'])
  node.aheadS = 0
  node.elapsed += 5_000
  t.is((await ask()).status, 200)
  t.deepEqual(node.states, ['wrong', 'right'])
}

test('is not ready when its clock is a day ahead of that of the database', (t) =>
  expectRefusal(t, day, /^the clock of this node is 86\d{3} seconds ahead of /))

test('is not ready when its clock is a day behind that of the database', (t) =>
  expectRefusal(t, -day, /^the clock of this node is 86\d{3} seconds behind /))

test('reports a clock that is off by 10 seconds once, and stays ready', async (t) => {
  const { node, ask } = await startNode(t, 10)
  for (const _ of [1, 2, 3]) {
    t.is((await ask()).status, 200)
    node.elapsed += 5_000
  }
  t.deepEqual(node.states, ['off'])
  t.is(node.compared.length, 3)
})

test('writes once in five seconds, however many ask', async (t) => {
  const { node, ask } = await startNode(t, 0)
  await Promise.all(Array.from({ length: 20 }, ask))
  t.is((await ask()).status, 200)
  t.is(node.writes, 1)
})

test('shares one look at a database that hangs', async (t) => {
  let pings = 0
  const { promise, resolve } = Promise.withResolvers<void>()
  const readiness = createReadiness({
    ping: () => {
      pings += 1
      return promise
    },
    write: async () => Date.now(),
    onCompared: () => {},
    onClock: () => {},
  })
  const app = new Koa().use(routed()).use(healthChecks({ ping: readiness.check, deadline: 20 }))
  const origin = await serve(t, app)
  for (const _ of [1, 2, 3]) t.is((await fetch(`${origin}/readyz`)).status, 503)
  t.is(pings, 1)
  resolve()
  await until(async () => (await fetch(`${origin}/readyz`)).status === 200)
  t.true(pings > 1)
})

test.serial('is not ready when the disk of the database is full', async (t) => {
  const { databaseUrl: url } = server
  await query(
    url,
    `create function fill() returns trigger language plpgsql as
       $$ begin raise exception 'no space left on device' using errcode = 'disk_full'; end $$;
     create trigger fill before insert or update on node_probes
       for each row execute function fill()`,
  )
  await until(async () => (await fetch(`${server.issuer}/readyz`)).status === 503)
  const { reason } = (await (await fetch(`${server.issuer}/readyz`)).json()) as { reason?: string }
  t.is(reason, 'the disk of the database is full')
  await query(url, 'drop trigger fill on node_probes')
  await until(async () => (await fetch(`${server.issuer}/readyz`)).status === 200)
})

test('is not ready for ten seconds after a statement that found the disk full', async (t) => {
  let [elapsed, code] = [0, '53100']
  const failing = async () => {
    if (!code) return { rows: [], rowCount: 0 }
    throw new DatabaseUnavailableError(Object.assign(new Error('no space'), { code }))
  }
  const database = { ...server.storage, query: failing } as unknown as Database
  const probe = createNodeProbe(database, { now: () => elapsed })
  await t.throwsAsync(probe.database.query({ text: 'insert' }))
  code = ''
  elapsed = 9_999
  await t.throwsAsync(probe.ping(), { message: 'the disk of the database is full' })
  elapsed = 10_000
  await t.notThrowsAsync(probe.ping())
  code = '25006'
  await t.throwsAsync(probe.ping(), { message: 'the database takes no writes' })
  await t.throwsAsync(probe.database.query({ text: 'insert' }), {
    name: 'DatabaseUnavailableError',
  })
  code = ''
  await t.notThrowsAsync(probe.ping())
})

function startWith(t: Parameters<typeof serve>[0], ping: () => Promise<void>) {
  return serve(t, new Koa().use(routed()).use(healthChecks({ ping, deadline: 50 })))
}

test('is live whatever the database does, and never asks it', async (t) => {
  let asked = 0
  const origin = await startWith(t, async () => {
    asked += 1
  })
  const answer = await fetch(`${origin}/livez`)
  t.is(answer.status, 200)
  t.deepEqual(await answer.json(), { status: 'ok' })
  t.is(asked, 0)
})

test('is ready when the database answers', async (t) => {
  const origin = await startWith(t, async () => {})
  const answer = await fetch(`${origin}/readyz`)
  t.is(answer.status, 200)
  t.deepEqual(await answer.json(), { status: 'ok' })
})

test('is not ready when the database fails', async (t) => {
  const origin = await startWith(t, () => Promise.reject(new Error('password of the database')))
  const answer = await fetch(`${origin}/readyz`)
  t.is(answer.status, 503)
  t.deepEqual(await answer.json(), { status: 'unavailable' })
})

test('is not ready when the database says nothing', async (t) => {
  const origin = await startWith(t, () => new Promise(() => {}))
  t.is((await fetch(`${origin}/readyz`)).status, 503)
})

test('asks the database once for all that ask at the same time', async (t) => {
  let asked = 0
  let arrived = 0
  const { promise, resolve } = Promise.withResolvers<void>()
  const app = new Koa().use(routed())
  app.use((_ctx, next) => {
    const answered = next()
    arrived += 1
    if (arrived === 3) resolve()
    return answered
  })
  app.use(
    healthChecks({
      ping: () => {
        asked += 1
        return promise
      },
    }),
  )
  const origin = await serve(t, app)
  const answers = await Promise.all([1, 2, 3].map(() => fetch(`${origin}/readyz`)))
  t.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200],
  )
  t.is(asked, 1)
})

test('leaves every other address alone', async (t) => {
  const origin = await startWith(t, async () => {})
  t.is((await fetch(`${origin}/livez/deeper`)).status, 404)
})
