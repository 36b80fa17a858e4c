import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { connect, type Socket } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import anyTest, { type TestFn } from 'ava'
import { openTestDatabase } from './support/database.ts'
import { type DatabaseProxy, openDatabaseProxy } from './support/database-proxy.ts'
import { type Answer, createPerson, newKey, obtainCode, post, refreshing } from './support/flow.ts'
import { createRecorder, type Recorder } from './support/history.ts'
import { query } from './support/query.ts'
import { startTestServer, type TestServer } from './support/server.ts'
import { until } from './support/until.ts'

const test = anyTest as TestFn<{
  opened: AsyncDisposableStack
  proxy: DatabaseProxy
  server: TestServer
  history: Recorder
  askForToken: () => Promise<Answer>
}>

test.beforeEach(async (t) => {
  const opened = new AsyncDisposableStack()
  const database = opened.use(await openTestDatabase())
  const proxy = opened.use(await openDatabaseProxy(database.url))
  const server = opened.use(
    await startTestServer({ DATABASE_URL: proxy.url, HOLDFAST_REFRESH_REUSE_SECONDS: '60' }),
  )
  const [client, key] = [await server.addClient(), await newKey()]
  const history = createRecorder({ graceS: 60 })
  const fetch = history.watch()
  const { exchange } = await obtainCode(createPerson(server, { fetch }), client)
  let { refresh_token: token } = (await post(server, '/token', exchange, { key, fetch })).body
  const askForToken = async () => {
    const answer = await post(server, '/token', refreshing(client, token), { key, fetch })
    token = answer.body.refresh_token ?? token
    return answer
  }
  t.context = { opened, proxy, server, history, askForToken }
})
test.afterEach((t) => {
  t.deepEqual(t.context.history.judge(), [])
})
test.afterEach.always((t) => t.context.opened.disposeAsync())

test('a token request without a database is answered 503 and when to come back', async (t) => {
  await t.context.proxy.cut()
  const { status, headers, body } = await t.context.askForToken()
  t.is(status, 503)
  t.is(body.error, 'temporarily_unavailable')
  t.regex(headers.get('retry-after') ?? '', /^\d+$/)
  t.notRegex(JSON.stringify(body), /ECONN|postgres|127\.0\.0\.1/)
})

test('metadata and keys need no database', async (t) => {
  const { proxy, server } = t.context
  await proxy.cut()
  for (const path of [
    '/.well-known/openid-configuration',
    '/.well-known/oauth-authorization-server',
    '/jwks',
  ]) {
    t.is((await fetch(server.issuer + path)).status, 200, path)
  }
})

test('a person without a database sees a page, and when to come back', async (t) => {
  const { proxy, server } = t.context
  await proxy.cut()
  const answer = await fetch(`${server.issuer}/authorize?client_id=x`, {
    headers: { accept: 'text/html' },
  })
  t.is(answer.status, 503)
  t.truthy(answer.headers.get('retry-after'))
  t.true((await answer.text()).includes('Please try again in a moment'))
})

test('without a database the server is live, not ready, and both by itself again', async (t) => {
  const { proxy, server } = t.context
  const statuses = async () => [
    (await fetch(`${server.issuer}/livez`)).status,
    (await fetch(`${server.issuer}/readyz`)).status,
    (await t.context.askForToken()).status,
  ]
  // A probe has a deadline, which a busy machine misses.
  const become = async (expected: number[]) => {
    await until(async () => isDeepStrictEqual(await statuses(), expected))
    t.pass()
  }
  await become([200, 200, 200])
  await proxy.cut()
  t.deepEqual(await statuses(), [200, 503, 503])
  await proxy.restore()
  await become([200, 200, 200])
})

test('a database that takes no writes is away, until it or another one takes them', async (t) => {
  const { server, proxy } = t.context
  const name = new URL(proxy.url).pathname.slice(1)
  const setReadOnly = (value: string) =>
    query(
      proxy.url,
      `set transaction read write; alter database ${name} set default_transaction_read_only = ${value}`,
    )
  const statuses = async () => [
    (await t.context.askForToken()).status,
    (await fetch(`${server.issuer}/readyz`)).status,
    (await fetch(`${server.issuer}/readyz`)).status,
  ]
  await setReadOnly('on')
  // As when a standby is led to: new connections, and no writes.
  await query(
    proxy.url,
    `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`,
  )
  t.deepEqual(await statuses(), [503, 503, 503])
  await setReadOnly('off')
  t.is((await fetch(`${server.issuer}/readyz`)).status, 200)
  t.deepEqual(await statuses(), [200, 200, 200])
})

test('a connection that breaks in the middle of a request is a 503 as well', async (t) => {
  const { proxy } = t.context
  t.is((await t.context.askForToken()).status, 200)
  proxy.pause()
  const asked = t.context.askForToken()
  await proxy.cut()
  t.is((await asked).status, 503)
})

test('closing finishes the requests that were begun, and takes no new ones', async (t) => {
  const { proxy, server } = t.context
  t.is((await t.context.askForToken()).status, 200)
  proxy.pause()
  const begun = requestsBegun(server, 20)
  const asked = Array.from({ length: 20 }, () => t.context.askForToken())
  await begun
  const closed = server.close()
  await t.throwsAsync(reach(server.issuer), { code: 'ECONNREFUSED' })
  proxy.resume()
  t.deepEqual(
    (await Promise.all(asked)).map(({ status }) => status),
    Array(20).fill(200),
  )
  await closed
})

/** Resolves when a server has begun so many requests more. */
function requestsBegun({ issuer }: TestServer, count: number): Promise<void> {
  const channel = 'http.server.request.start'
  const port = Number(new URL(issuer).port)
  return new Promise((resolve) => {
    let left = count
    subscribe(channel, function begin(message) {
      if ((message as { socket: Socket }).socket.localPort !== port) return
      left -= 1
      if (left > 0) return
      unsubscribe(channel, begin)
      resolve()
    })
  })
}

function reach(origin: string): Promise<void> {
  const { hostname, port } = new URL(origin)
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => {
      socket.destroy()
      resolve()
    })
    socket.on('error', reject)
  })
}
