import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import http, { type IncomingMessage, type RequestListener } from 'node:http'
import https, { type RequestOptions } from 'node:https'
import { connect, type Socket } from 'node:net'
import path from 'node:path'
import tls from 'node:tls'
import test, { type ExecutionContext } from 'ava'
import Koa from 'koa'
import { parseConfig } from '../../src/config/config.ts'
import { listeningSockets } from '../../src/http/acceptors.ts'
import { developmentCertificate } from '../../src/http/development-authority.ts'
import { createEdge } from '../../src/http/edge.ts'
import { errorPages } from '../../src/http/error-pages.ts'
import { type Listening, listen } from '../../src/http/listen.ts'
import {
  guardedRoutes,
  limitEdgeRefusals,
  limitRefusals,
  limitRequests,
} from '../../src/http/network-limit.ts'
import { onRoutes } from '../../src/http/routing.ts'
import { type ShedLoadOptions, shedLoad } from '../../src/http/shed-load.ts'
import { mostUnanswered } from '../../src/http/unanswered-requests.ts'
import { createNetworkLimit } from '../../src/limits/network-limit.ts'
import { freePort } from '../../src/net/free-port.ts'
import { ListenError } from '../../src/net/listen-error.ts'
import { english } from '../../src/pages/messages.ts'
import { PageError } from '../../src/pages/page-error.ts'
import { selfSigned, type TestCertificate } from '../support/certificates.ts'
import { useFolder } from '../support/folder.ts'
import { routed } from '../support/routed.ts'
import { serve } from '../support/serve.ts'
import { until } from '../support/until.ts'
import 'reflect-metadata'
import { X509Certificate } from 'node:crypto'

const folder = useFolder(test)
const hello: RequestListener = (_request, response) => response.end('hello')

interface Started extends Listening {
  readonly port: number
}

async function start(
  environment: Record<string, string> = {},
  handler: RequestListener = hello,
): Promise<Started> {
  const port = await freePort()
  const config = parseConfig({
    HOLDFAST_PORT: String(port),
    HOLDFAST_DATA: folder,
    ...environment,
  })
  return { port, ...(await listen(handler, config)) }
}

const off = { HOLDFAST_TLS: 'off' }
const sharesPorts = process.platform === 'linux'

async function get(options: RequestOptions): Promise<string> {
  const request = https.get({ host: 'localhost', agent: false, ...options })
  const [response] = (await once(request, 'response')) as [http.IncomingMessage]
  return (await response.toArray()).join('')
}

test.serial(
  'serves HTTPS by default, to a client that trusts the development authority',
  async (t) => {
    await using server = await start()
    t.is(server.authorityFile, path.join(folder, 'tls', 'authority.pem'))
    const ca = await readFile(server.authorityFile ?? '')
    t.is(await get({ port: server.port, ca }), 'hello')
  },
)

test.serial('fails for a client that does not trust the development authority', async (t) => {
  await using server = await start()
  await t.throwsAsync(get({ port: server.port }), { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' })
})

test.serial('speaks no plain HTTP on a TLS port', async (t) => {
  await using server = await start()
  const request = http.get({ host: '127.0.0.1', port: server.port, agent: false })
  await t.throwsAsync(once(request, 'response'))
})

test.serial('speaks no TLS older than 1.2', async (t) => {
  await using server = await start()
  const socket = tls.connect({
    host: '127.0.0.1',
    port: server.port,
    maxVersion: 'TLSv1.1',
    minVersion: 'TLSv1',
    ciphers: 'ALL@SECLEVEL=0',
    rejectUnauthorized: false,
  })
  await t.throwsAsync(once(socket, 'secureConnect'))
})

test.serial('offers the cipher suites of RFC 9325, and others where they are named', async (t) => {
  const chacha = 'ECDHE-ECDSA-CHACHA20-POLY1305'
  const negotiate = async (port: number, ciphers: string, maxVersion: 'TLSv1.2' | 'TLSv1.3') => {
    const options = { host: '127.0.0.1', port, rejectUnauthorized: false, ciphers, maxVersion }
    const socket = tls.connect(options)
    await once(socket, 'secureConnect')
    const { standardName } = socket.getCipher()
    socket.destroy()
    return standardName
  }
  await using server = await start()
  await t.throwsAsync(negotiate(server.port, chacha, 'TLSv1.2'))
  await t.throwsAsync(negotiate(server.port, 'AES128-GCM-SHA256', 'TLSv1.2'))
  const allowed = await negotiate(server.port, 'ECDHE-ECDSA-AES128-GCM-SHA256', 'TLSv1.2')
  t.is(allowed, 'TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256')
  const suite = 'TLS_AES_256_GCM_SHA384'
  t.is(await negotiate(server.port, suite, 'TLSv1.3'), suite)
  await using other = await start({ HOLDFAST_TLS_CIPHERS: `${suite}:${chacha}` })
  t.regex(await negotiate(other.port, chacha, 'TLSv1.2'), /CHACHA20/)
})

test.serial('has a certificate for the name of the issuer', async (t) => {
  await using server = await start({ HOLDFAST_ISSUER: 'https://id.example.test' })
  const ca = await readFile(server.authorityFile ?? '')
  t.is(await get({ port: server.port, ca, servername: 'id.example.test' }), 'hello')
})

test('serves plain HTTP when TLS is off', async (t) => {
  await using server = await start(off)
  t.is(server.authorityFile, undefined)
  t.is(await (await fetch(`http://127.0.0.1:${server.port}`)).text(), 'hello')
})

async function certificateFiles(name: string) {
  const { cert, key, authorityFile } = await developmentCertificate(path.join(folder, name), [])
  const files = { cert: path.join(folder, `${name}.pem`), key: path.join(folder, `${name}.key`) }
  await writeFile(files.cert, cert)
  await writeFile(files.key, key)
  const environment = { HOLDFAST_TLS_CERT_FILE: files.cert, HOLDFAST_TLS_KEY_FILE: files.key }
  return { environment, ca: await readFile(authorityFile) }
}

test('serves HTTPS with certificate files', async (t) => {
  const { environment, ca } = await certificateFiles('own')
  await using server = await start(environment)
  t.is(server.authorityFile, undefined)
  t.is(await get({ port: server.port, ca }), 'hello')
})

test('refuses a certificate file that is not there', async (t) => {
  const { environment } = await certificateFiles('missing')
  for (const name of Object.keys(environment)) {
    const missing = path.join(folder, 'nowhere.pem')
    const error = await t.throwsAsync(start({ ...environment, [name]: missing }), {
      instanceOf: ListenError,
    })
    t.is(error?.code, 'certificate_unusable')
    t.true(error?.message.includes(missing))
    t.regex(error?.message ?? '', new RegExp(name))
  }
})

test('refuses a certificate with the key of another', async (t) => {
  const [own, other] = await Promise.all(['one', 'other'].map(certificateFiles))
  const environment = {
    ...own?.environment,
    HOLDFAST_TLS_KEY_FILE: other?.environment.HOLDFAST_TLS_KEY_FILE ?? '',
  }
  const error = await t.throwsAsync(start(environment), { instanceOf: ListenError })
  t.is(error?.code, 'certificate_unusable')
  t.regex(error?.message ?? '', /HOLDFAST_TLS_CERT_FILE.*HOLDFAST_TLS_KEY_FILE/)
})

test('refuses certificate files that hold something else', async (t) => {
  const { environment } = await certificateFiles('garbage')
  for (const file of Object.values(environment)) {
    const before = await readFile(file)
    await writeFile(file, 'garbage')
    const error = await t.throwsAsync(start(environment), { instanceOf: ListenError })
    t.is(error?.code, 'certificate_unusable')
    await writeFile(file, before)
  }
})

test('says that a port is in use', async (t) => {
  await using first = await start(off)
  const port = String(first.port)
  const error = await t.throwsAsync(start({ ...off, HOLDFAST_PORT: port }), {
    instanceOf: ListenError,
  })
  t.is(error?.code, 'address_in_use')
  t.regex(error?.message ?? '', new RegExp(`Port ${port} .*HOLDFAST_PORT`))
})

test('says that an address is not one of this machine', async (t) => {
  // RFC 5737: for documentation, and no machine's.
  const error = await t.throwsAsync(start({ ...off, HOLDFAST_HOST: '192.0.2.1' }), {
    instanceOf: ListenError,
  })
  t.is(error?.code, 'address_unusable')
  t.regex(error?.message ?? '', /HOLDFAST_HOST/)
})

/** A handler that answers the first request when the test says so. */
function holding() {
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  const { promise: held, resolve: release } = Promise.withResolvers<void>()
  const handler: RequestListener = (_request, response) => {
    begin()
    void held.then(() => response.end('finished'))
  }
  return { handler, begun, release }
}

test('closing finishes a request that was begun, and accepts no other', async (t) => {
  const { handler, begun, release } = holding()
  const server = await start(off, handler)
  const answer = fetch(`http://127.0.0.1:${server.port}`).then((response) => response.text())
  await begun
  const closing = server[Symbol.asyncDispose]()
  await t.throwsAsync(fetch(`http://127.0.0.1:${server.port}`))
  release()
  t.is(await answer, 'finished')
  await closing
})

test('closing finishes a request that was begun over TLS', async (t) => {
  const { handler, begun, release } = holding()
  const { environment, ca } = await certificateFiles('closing')
  const server = await start(environment, handler)
  const answer = get({ port: server.port, ca, agent: new https.Agent({ keepAlive: true }) })
  await begun
  const closing = server[Symbol.asyncDispose]()
  release()
  t.is(await answer, 'finished')
  await closing
})

test('closing does not wait for connections that ask for nothing', async (t) => {
  const { environment } = await certificateFiles('silent')
  for (const each of [off, environment]) {
    const server = await start(each)
    const silent = connect(server.port, '127.0.0.1')
    await once(silent, 'connect')
    const ended = once(silent, 'close')
    await server[Symbol.asyncDispose]()
    await ended
  }
  t.pass()
})

test('closing does not wait for a connection that is kept for more requests', async (t) => {
  const server = await start(off)
  const agent = new http.Agent({ keepAlive: true })
  const request = http.get({ host: '127.0.0.1', port: server.port, agent })
  const [response] = (await once(request, 'response')) as [http.IncomingMessage]
  t.is((await response.toArray()).join(''), 'hello')
  await server[Symbol.asyncDispose]()
  agent.destroy()
})

test('closing does not wait for a request whose header never ends', async (t) => {
  const server = await start(off)
  const slow = connect(server.port, '127.0.0.1')
  slow.write('GET / HTTP/1.1\r\nHost: localhost\r\n')
  await once(slow, 'connect')
  const ended = once(slow, 'close')
  await server[Symbol.asyncDispose]()
  await ended
  t.pass()
})

test('closes a connection with too many unanswered requests, and serves others', async (t) => {
  let begun = 0
  const { promise: held, resolve: release } = Promise.withResolvers<void>()
  await using server = await start(off, (request, response) => {
    if (request.url === '/held') begun += 1
    const answer = request.url === '/held' ? held : Promise.resolve()
    void answer.then(() => response.end('x'.repeat(100_000)))
  })
  const request = 'GET /held HTTP/1.1\r\nHost: x\r\n\r\n'
  const flood = Array.from({ length: 5 }, () => connect(server.port, '127.0.0.1'))
  const closed = flood.map(
    (socket) => new Promise((resolve) => socket.on('error', () => {}).once('close', resolve)),
  )
  for (const socket of flood) socket.write(request.repeat(20_000))
  t.is((await fetch(`http://127.0.0.1:${server.port}`)).status, 200)
  for (const socket of flood) socket.resume()
  await Promise.all(closed)
  t.is(begun, flood.length * mostUnanswered)
  release()
})

test('closes a connection whose client reads none of its answers', async (t) => {
  const { promise: closed, resolve: close } = Promise.withResolvers<void>()
  let begun = 0
  await using server = await start(off, (request, response) => {
    begun += 1
    if (begun === 1) request.socket.once('close', () => close())
    response.end('x'.repeat(10_000_000))
  })
  const socket = connect(server.port, '127.0.0.1').on('error', () => {})
  socket.pause()
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(2 * mostUnanswered))
  await closed
  t.is(begun, mostUnanswered)
  socket.destroy()
})

test('bounds the time and the number of connections of every listener', async (t) => {
  const { environment, ca } = await certificateFiles('bounds')
  for (const [each, scheme] of [
    [off, http],
    [environment, https],
  ] as const) {
    const { promise, resolve } = Promise.withResolvers<http.Server>()
    await using server = await start(each, ({ socket }, response) => {
      resolve(Reflect.get(socket, 'server'))
      response.end()
    })
    scheme.get({ host: 'localhost', port: server.port, ca, agent: false }).on('error', t.fail)
    const { timeout, headersTimeout, requestTimeout, maxConnections } = await promise
    t.deepEqual([timeout, headersTimeout, requestTimeout], [60_000, 20_000, 60_000])
    t.is(maxConnections, Math.ceil(10_000 / (sharesPorts ? listeningSockets : 1)))
  }
})

const whereShared = sharesPorts ? test : test.skip
whereShared('accepts many connections in one turn of the event loop', async (t) => {
  await using server = await start(off)
  const { port } = server
  const perTurn = new Map<number, number>()
  let turn = 0
  let isOver = false
  const count = (message: unknown) => {
    const { localPort } = (message as { socket: Socket }).socket
    if (localPort === port) perTurn.set(turn, (perTurn.get(turn) ?? 0) + 1)
  }
  const next = () => {
    turn += 1
    if (!isOver) setImmediate(next)
  }
  subscribe('net.server.socket', count)
  next()
  const clients = Array.from({ length: 100 }, () => connect(port, '127.0.0.1'))
  await until(async () => [...perTurn.values()].reduce((sum, each) => sum + each, 0) === 100)
  unsubscribe('net.server.socket', count)
  isOver = true
  t.true(Math.max(...perTurn.values()) > 4, `${[...perTurn.values()]}`)
  for (const client of clients) client.destroy()
})

test('serves many requests on one connection in turn', async (t) => {
  await using server = await start(off)
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  for (let count = 0; count < 3 * mostUnanswered; count += 1) {
    const request = http.get({ host: '127.0.0.1', port: server.port, agent })
    const [response] = (await once(request, 'response')) as [http.IncomingMessage]
    t.is((await response.toArray()).join(''), 'hello')
  }
  agent.destroy()
})

const edge = createEdge({
  issuer: 'https://id.example',
  trustedProxies: ['10.0.0.0/8'],
  tokenBinding: 'off',
  mtls: {
    port: undefined,
    origin: 'https://mtls.id.example',
    forwarded: { format: 'nginx', header: undefined },
  },
})

let client: TestCertificate
let proxy: TestCertificate

test.before(async () => {
  client = await selfSigned()
  proxy = await selfSigned()
})

/** A request from an address, by a connection that has shown a certificate. */
function from(
  remoteAddress: string,
  { shown, headers = {} }: { shown?: TestCertificate; headers?: Record<string, string> } = {},
): IncomingMessage {
  const socket = { remoteAddress, getPeerX509Certificate: () => shown?.certificate }
  return { socket, headers, rawHeaders: Object.entries(headers).flat() } as never
}

const header = () => ({ 'x-ssl-cert': encodeURIComponent(client.cert) })

test('the certificate of a client that connects itself is that of its connection', (t) => {
  const { certificate, fromProxy } = edge.inspect(from('192.0.2.1', { shown: client }))
  t.is(certificate?.thumbprint, client.thumbprint)
  t.false(fromProxy)
})

test('the certificate behind a proxy is that in the header', (t) => {
  const { certificate, fromProxy } = edge.inspect(
    from('10.1.2.3', { shown: proxy, headers: header() }),
  )
  t.is(certificate?.thumbprint, client.thumbprint)
  t.true(fromProxy)
})

test("a proxy's own certificate is nobody's", (t) => {
  t.is(edge.inspect(from('10.1.2.3', { shown: proxy })).certificate, undefined)
})

test('a header from anyone else is refused, with a certificate beside it or without', (t) => {
  for (const shown of [client, undefined]) {
    const request = from('192.0.2.1', { ...(shown && { shown }), headers: header() })
    t.is(edge.inspect(request).refused?.code, 'untrusted_peer')
  }
})

test('ignores certificate headers without a configured format', (t) => {
  const plain = createEdge({
    issuer: 'https://id.example',
    trustedProxies: ['10.0.0.0/8'],
    tokenBinding: 'off',
    mtls: { port: undefined, origin: undefined, forwarded: undefined },
  })
  const headers = { 'client-cert': `:${client.der.toString('base64')}:` }
  t.is(plain.inspect(from('10.1.2.3', { headers })).refused?.code, 'untrusted_peer')
})

test('of two configured origins the proxy says which one it was', (t) => {
  const at = (address: string, host: string) =>
    edge.originOf(from(address, { headers: { host } })).origin
  t.is(at('10.1.2.3', 'mtls.id.example'), 'https://mtls.id.example')
  t.is(at('10.1.2.3', 'id.example'), 'https://id.example')
  t.is(at('10.1.2.3', 'evil.example'), 'https://id.example')
  t.is(at('192.0.2.1', 'mtls.id.example'), 'https://id.example')
})

interface Answer {
  status: number
  body?: object
}

/** A server that answers what it is told, and limits a network to three requests a minute. */
async function limitStart(t: ExecutionContext, answer: () => Answer) {
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
  const { post, state } = await limitStart(t, refused)
  for (let count = 0; count < 3; count += 1) t.is((await post()).status, 401)
  const answer = await post()
  t.is(answer.status, 429)
  t.is(answer.headers.get('retry-after'), '20')
  t.is(((await answer.json()) as { error: string }).error, 'temporarily_unavailable')
  t.is(state.limited, 1)
})

test('scripts may read when to come back, at routes that they may call', async (t) => {
  const { post } = await limitStart(t, refused)
  const origin = { origin: 'https://app.example' }
  for (let count = 0; count < 3; count += 1) await post('/token', origin)
  for (const [path, allowed] of [
    ['/token', '*'],
    ['/par', '*'],
    ['/register', '*'],
    ['/authorize', null],
  ] as const) {
    const { status, headers } = await post(path, origin)
    t.is(status, 429)
    t.is(headers.get('access-control-allow-origin'), allowed)
    t.is(headers.get('access-control-expose-headers'), allowed && 'Retry-After')
  }
})

test('when the time is over, requests are heard again', async (t) => {
  const { post, state } = await limitStart(t, refused)
  for (let count = 0; count < 5; count += 1) await post()
  state.now = 20_001
  t.is((await post()).status, 401)
})

test('another network is not affected', async (t) => {
  const { post } = await limitStart(t, refused)
  for (let count = 0; count < 5; count += 1) await post()
  t.is((await post('/token', { 'x-from': '192.0.2.8' })).status, 401)
})

test('successes count for nothing', async (t) => {
  const { post, state } = await limitStart(t, () => ({ status: 200 }))
  await post()
  t.is(state.taken, 0)
})

for (const error of ['use_dpop_nonce', 'authorization_pending']) {
  test(`${error} counts for nothing`, async (t) => {
    const { post, state } = await limitStart(t, () => ({ status: 400, body: { error } }))
    await post()
    t.is(state.taken, 0)
  })
}

test('a device that asks too often is refused', async (t) => {
  const { post, state } = await limitStart(t, () => ({ status: 400, body: { error: 'slow_down' } }))
  await post()
  t.is(state.taken, 1)
})

test('our own failures count for nothing', async (t) => {
  const { post, state } = await limitStart(t, () => ({ status: 503 }))
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
    const { post, state } = await limitStart(t, refused)
    await post(path, {}, method)
    t.is(state.taken, 1)
  })
}

test('neither a preflight nor another spelling of a route is counted', async (t) => {
  const { post, state } = await limitStart(t, refused)
  await post('/token', {}, 'OPTIONS')
  await post('/TOKEN')
  t.is(state.taken, 0)
})

test('what people and relying parties read is not limited', async (t) => {
  const { post, state } = await limitStart(t, refused)
  await post('/session/end')
  t.is(state.taken, 0)
})

test('limits authorization requests, and tells people so in a page', async (t) => {
  const { post, state } = await limitStart(t, () => ({ status: 200 }))
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
  const { post, state } = await limitStart(t, () => ({ status: 200 }))
  const forged = { 'client-cert': ':x:' }
  for (let count = 0; count < 3; count += 1) t.is((await post('/token', forged)).status, 400)
  t.is((await post('/jwks', forged, 'GET')).status, 429)
  t.is(state.limited, 1)
  t.is((await post('/jwks', {}, 'GET')).status, 200)
})

/** A node whose requests end when the test says so. */
async function loadStart(t: ExecutionContext, options: Partial<ShedLoadOptions> = {}) {
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
  const { ask, hold, release, shed } = await loadStart(t, busy)
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
  const { ask, hold, release } = await loadStart(t, busy)
  const held = await hold('/authorize', 8)
  await until(async () => (await statusOf(ask('/authorize'))) === 503)
  t.is(await statusOf(ask('/token')), 200)
  t.is(await statusOf(ask('/token/')), 503)
  t.is(await statusOf(ask('/readyz', { method: 'GET' })), 200)
  release()
  await Promise.all(held)
})

test('holds a bounded number of refusals back, and closes the connections of others', async (t) => {
  const { ask, hold, release } = await loadStart(t, { ...busy, holdMs: () => 500, mostHeld: 2 })
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
  const { ask, hold, release } = await loadStart(t, busy)
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
  const { ask, hold, release } = await loadStart(t, busy)
  const held = await hold('/interaction/x/login', 100)
  t.is(await statusOf(ask('/authorize')), 200)
  release()
  await Promise.all(held)
})

test('requests whose bodies never come keep nothing out', async (t) => {
  const { origin, ask, begun } = await loadStart(t, { poolWaitMs: () => 1000 })
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

const root = useFolder(test)

let folders = 0
/** A folder that is not there yet. */
function newFolder() {
  folders += 1
  return path.join(root, String(folders), 'tls')
}

const day = 24 * 60 * 60 * 1000

async function authorityOf(folder: string) {
  return new X509Certificate(await readFile(path.join(folder, 'authority.pem')))
}

test('signs a certificate for loopback and the names it is given', async (t) => {
  const folder = newFolder()
  const { cert, authorityFile } = await developmentCertificate(folder, ['id.test', '10.0.0.1'])
  const certificate = new X509Certificate(cert)
  t.is(authorityFile, path.join(folder, 'authority.pem'))
  t.true(certificate.verify((await authorityOf(folder)).publicKey))
  for (const name of ['localhost', 'id.test']) t.is(certificate.checkHost(name), name)
  for (const ip of ['127.0.0.1', '::1', '10.0.0.1']) t.truthy(certificate.checkIP(ip), ip)
  t.is(certificate.checkHost('example.com'), undefined)
  t.false(certificate.ca)
})

test('keeps the authority over restarts, and makes a new certificate at each', async (t) => {
  const folder = newFolder()
  const first = await developmentCertificate(folder, [])
  const authority = await authorityOf(folder)
  const second = await developmentCertificate(folder, [])
  t.is((await authorityOf(folder)).fingerprint256, authority.fingerprint256)
  t.not(
    new X509Certificate(second.cert).fingerprint256,
    new X509Certificate(first.cert).fingerprint256,
  )
  t.true(new X509Certificate(second.cert).verify(authority.publicKey))
})

test('lets nobody else read the authority key, and does not give it away', async (t) => {
  const folder = newFolder()
  await developmentCertificate(folder, [])
  t.deepEqual((await readdir(folder)).sort(), ['authority-key.pem', 'authority.pem'])
  t.is((await stat(path.join(folder, 'authority-key.pem'))).mode & 0o777, 0o600)
  t.notRegex(await readFile(path.join(folder, 'authority.pem'), 'utf8'), /PRIVATE/)
})

test('has an authority that may sign certificates of servers only', async (t) => {
  const folder = newFolder()
  await developmentCertificate(folder, [])
  const authority = await authorityOf(folder)
  t.true(authority.ca)
  t.true(authority.verify(authority.publicKey))
})

test('renews an authority that would end before what it signs', async (t) => {
  const folder = newFolder()
  await developmentCertificate(folder, [], { now: () => Date.now() - 3600 * day })
  const old = await authorityOf(folder)
  t.true(old.validToDate.getTime() > Date.now())
  const { cert } = await developmentCertificate(folder, [])
  const renewed = await authorityOf(folder)
  t.not(renewed.fingerprint256, old.fingerprint256)
  t.true(new X509Certificate(cert).verify(renewed.publicKey))
  t.true(renewed.validToDate > new X509Certificate(cert).validToDate)
})

test('puts the certificate back when it was removed', async (t) => {
  const folder = newFolder()
  const { authorityFile } = await developmentCertificate(folder, [])
  const before = await readFile(authorityFile, 'utf8')
  await writeFile(authorityFile, '')
  await developmentCertificate(folder, [])
  t.is(await readFile(authorityFile, 'utf8'), before)
})

test('of many first starts at once all sign by the authority that stays', async (t) => {
  const folder = newFolder()
  const made = await Promise.all(
    Array.from({ length: 8 }, () => developmentCertificate(folder, [])),
  )
  const authority = await authorityOf(folder)
  for (const { cert } of made) t.true(new X509Certificate(cert).verify(authority.publicKey))
  t.deepEqual((await readdir(folder)).sort(), ['authority-key.pem', 'authority.pem'])
})

for (const [name, text] of [
  ['empty', ''],
  ['no PEM', 'what is this'],
  ['cut off', '-----BEGIN PRIVATE KEY-----\nMIGHAg\n-----END PRIVATE KEY-----\n'],
] as const) {
  test(`refuses an authority file that is ${name}`, async (t) => {
    const folder = newFolder()
    await mkdir(folder, { recursive: true })
    await writeFile(path.join(folder, 'authority-key.pem'), text)
    const error = await t.throwsAsync(developmentCertificate(folder, []), {
      instanceOf: ListenError,
    })
    t.is(error?.code, 'certificate_unusable')
    t.regex(error?.message ?? '', /authority-key\.pem/)
    t.is(await readFile(path.join(folder, 'authority-key.pem'), 'utf8'), text)
  })
}

test('says that the folder cannot be written', async (t) => {
  const file = path.join(root, 'file')
  await writeFile(file, '')
  const error = await t.throwsAsync(developmentCertificate(path.join(file, 'tls'), []), {
    instanceOf: ListenError,
  })
  t.is(error?.code, 'certificate_unusable')
  t.regex(error?.message ?? '', /HOLDFAST_DATA/)
})
