import { randomUUID, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from 'node:http2'
import { request as httpsRequest } from 'node:https'
import type { Readable } from 'node:stream'
import test from 'ava'
import { WebSocket, WebSocketServer } from 'ws'
import type { ReplayStore } from '../../packages/verify/replay.ts'
import { createAuthority } from '../support/certificates.ts'
import {
  startApplication,
  startGate,
  type TestApplication,
  type TestGate,
} from '../support/gate.ts'
import {
  connectFrames,
  endHeaders,
  type FrameClient,
  frameTypes,
  headerBlock,
  uint32,
} from '../support/http2-frames.ts'
import { until } from '../support/until.ts'
import { accessToken, audience, dpopProof } from '../support/verify/fixtures.ts'

const opened = new AsyncDisposableStack()
const authority = await createAuthority()
const pair = await authority.issue({
  names: [{ type: 'dns', value: 'localhost' }],
  usage: ['1.3.6.1.5.5.7.3.1'],
})
const tls = { certFile: 'unused', keyFile: 'unused' }

let application: TestApplication
let gate: TestGate
let streaming: TestGate

test.before(async () => {
  application = opened.use(await startApplication())
  const settings = {
    origin: audience,
    upstream: { url: application.url },
    requestHeaders: ['x-checksum'],
  }
  const certified = { ...tls, clientCertificates: true }
  gate = opened.use(await startGate({ tls: certified, applications: [settings] }, { pair }))
  const passing = { ...settings, bodies: { larger: 'pass', signedBytes: 1 } }
  streaming = opened.use(await startGate({ tls, applications: [passing] }, { pair }))
})
test.after.always(() => opened.disposeAsync())

function open({ port }: TestGate, options: { cert?: string; key?: string } = {}) {
  const session = connect(`https://localhost:${port}`, { ca: authority.cert, ...options })
  session.on('error', () => {})
  return session
}

function credentials(method: string, path: string) {
  const token = accessToken()
  return {
    authorization: `DPoP ${token}`,
    dpop: dpopProof(token, { htm: method, htu: audience + path }),
  }
}

/** A request whose body is still to come. */
function begin(session: ClientHttp2Session, path: string, headers: OutgoingHttpHeaders = {}) {
  const method = `${headers[':method'] ?? 'GET'}`
  const stream = session.request(
    { ':authority': 'api.example', ':path': path, ...credentials(method, path), ...headers },
    { endStream: method === 'GET' },
  )
  stream.on('error', () => {})
  return stream
}

const answered = async (stream: ClientHttp2Stream) =>
  ((await once(stream, 'response')) as [IncomingHttpHeaders & { ':status': number }])[0]

async function read(stream: Readable): Promise<string> {
  let text = ''
  for await (const chunk of stream) text += chunk
  return text
}

const gotFor = (path: string) => application.received.filter(({ url }) => url === path)
const post = { ':method': 'POST' }

test('forwards requests by HTTP/2 with an assertion that the application accepts', async (t) => {
  const session = open(gate)
  const first = begin(session, '/h2/one', { ...post, 'content-type': 'text/plain', te: 'trailers' })
  const second = begin(session, '/h2/two', { cookie: ['a=1', 'b=2'] })
  first.end('hello')
  const statuses = (await Promise.all([first, second].map(answered))).map((each) => each[':status'])
  t.deepEqual(statuses, [200, 200])
  session.close()
  const [posted] = gotFor('/h2/one')
  t.is(posted?.code, undefined)
  t.is(posted?.assertion?.identity?.claims.sub, 'alice')
  t.true(posted?.assertion?.bodySigned)
  t.is(posted?.body.toString(), 'hello')
  const fields = gotFor('/h2/two')[0]?.rawHeaders ?? []
  const valuesOf = (name: string) =>
    fields.filter((_, at) => at % 2 === 1 && fields[at - 1]?.toLowerCase() === name)
  t.deepEqual(valuesOf('cookie'), ['a=1; b=2'])
  t.deepEqual(valuesOf('host'), ['api.example'])
  t.deepEqual(valuesOf('via'), ['2 holdfast-gate'])
  t.deepEqual(valuesOf('transfer-encoding'), [])
})

test('refuses a proof that was used before, on the same connection and by HTTP/1.1', async (t) => {
  const session = open(gate)
  const headers = credentials('GET', '/h2/once')
  t.is((await answered(begin(session, '/h2/once', headers)))[':status'], 200)
  const again = await answered(begin(session, '/h2/once', headers))
  t.is(again[':status'], 401)
  t.regex(`${again['www-authenticate']}`, /DPoP .*error="invalid_dpop_proof"/)
  session.close()
  const sent = httpsRequest({
    ...{ port: gate.port, host: 'localhost', path: '/h2/once', ca: authority.cert, agent: false },
    servername: 'localhost',
    headers: { host: 'api.example', ...headers },
  })
  sent.end()
  const [answer] = await once(sent, 'response')
  answer.resume()
  t.is(answer.statusCode, 401)
  t.is(gotFor('/h2/once').length, 1)
})

test('knows the certificate of the client on each request of its connection', async (t) => {
  const client = await authority.issue()
  const thumbprint = Buffer.from(
    new X509Certificate(client.cert).fingerprint256.replaceAll(':', ''),
    'hex',
  ).toString('base64url')
  const authorization = `Bearer ${accessToken({ cnf: { 'x5t#S256': thumbprint } })}`
  const certified = open(gate, { cert: client.cert, key: client.key })
  for (const path of ['/h2/certified/1', '/h2/certified/2']) {
    const stream = begin(certified, path, { authorization, dpop: undefined })
    t.is((await answered(stream))[':status'], 200)
    t.deepEqual(gotFor(path)[0]?.assertion?.identity?.methods, ['mtls'])
  }
  certified.close()
  const without = open(gate)
  const stream = begin(without, '/h2/certified/3', { authorization, dpop: undefined })
  t.is((await answered(stream))[':status'], 401)
  without.close()
})

test('streams both ways, with trailers both ways', async (t) => {
  application.handlers.set('/h2/echo', async (request, response) => {
    response.writeHead(200, { 'set-cookie': ['a=1', 'b=2'] })
    response.flushHeaders()
    for await (const chunk of request) response.write(chunk)
    const sum = request.trailers['x-checksum']
    response.addTrailers({ 'x-checksum': `${sum}, returned`, 'x-more': '1' })
    response.end()
  })
  const session = open(streaming)
  const stream = session.request(
    {
      ...{ ':method': 'POST', ':path': '/h2/echo', ':authority': 'api.example' },
      ...credentials('POST', '/h2/echo'),
    },
    { waitForTrailers: true },
  )
  stream.on('wantTrailers', () => stream.sendTrailers({ 'x-checksum': 'abc', via: 'forged' }))
  stream.write('one')
  t.deepEqual((await answered(stream))['set-cookie'], ['a=1', 'b=2'])
  const trailers = once(stream, 'trailers')
  const [first] = await once(stream, 'data')
  t.is(`${first}`, 'one')
  stream.end('two')
  const [second] = await once(stream, 'data')
  t.is(`${second}`, 'two')
  const [received] = await trailers
  t.is(received['x-checksum'], 'abc, returned')
  t.is(received['x-more'], '1')
  session.close()
})

const reset = { type: frameTypes.reset, stream: 1, payload: uint32(constants.NGHTTP2_CANCEL) }
const cuts = {
  'resets it': ({ send }: FrameClient) => send(reset),
  'is gone': ({ socket }: FrameClient) => socket.destroy(),
}

/** The head of an upload, and some of its body: Node's client would write the end of it as well. */
const uploadTo = (path: string) => [
  {
    ...{ type: frameTypes.headers, flags: endHeaders, stream: 1 },
    payload: headerBlock([
      ...[[':method', 'POST'] as const, [':scheme', 'https'] as const],
      ...[[':authority', 'api.example'] as const, [':path', path] as const],
      ...Object.entries(credentials('POST', path)),
    ]),
  },
  { type: frameTypes.data, stream: 1, payload: Buffer.from('{"amount":1') },
]

for (const [how, cut] of Object.entries(cuts)) {
  test(`cuts an upload off at the application where the client ${how}`, async (t) => {
    const path = `/h2/cut/${randomUUID()}`
    const { promise: ended, resolve } = Promise.withResolvers<boolean>()
    using client = await connectFrames(streaming.port)
    application.handlers.set(path, (request) => {
      request.on('data', () => cut(client))
      request.on('error', () => {})
      request.once('close', () => resolve(request.complete))
    })
    client.send(...uploadTo(path))
    t.false(await ended)
  })

  test(`sends nothing on of a request to sign where the client ${how}`, async (t) => {
    const path = `/h2/half/${randomUUID()}`
    await using signing = await startGate(
      { tls, applications: [{ origin: audience, upstream: { url: application.url } }] },
      { pair },
    )
    using client = await connectFrames(signing.port)
    client.send(...uploadTo(path))
    // It has the body when it answers what was sent after it.
    client.send({ type: frameTypes.ping, payload: Buffer.alloc(8) })
    await client.next(({ type }) => type === frameTypes.ping)
    cut(client)
    await until(async () => signing.events.some(({ type }) => type === 'gate_refused'))
    t.like(signing.events.at(-1), { code: 'body_malformed' })
    t.deepEqual(gotFor(path), [])
  })
}

/** A gate that asks its store of used proofs, and waits for the answer. */
async function startWaiting() {
  const asked = Promise.withResolvers<void>()
  const answer = Promise.withResolvers<'fresh'>()
  const replay: ReplayStore = {
    shared: true,
    consume: () => {
      asked.resolve()
      return answer.promise
    },
  }
  const waiting = await startGate(
    { tls, applications: [{ origin: audience, upstream: { url: application.url } }] },
    { pair, replay },
  )
  return { waiting, asked: asked.promise, release: () => answer.resolve('fresh') }
}

/** After this the gate has seen what was sent to it before. */
async function answerLater({ port }: TestGate): Promise<void> {
  using client = await connectFrames(port)
  client.send({ type: frameTypes.ping, payload: Buffer.alloc(8) })
  await client.next(({ type }) => type === frameTypes.ping)
}

for (const [how, cut] of Object.entries(cuts)) {
  test(`sends nothing on where the client ${how} while its proof is looked up`, async (t) => {
    const path = `/h2/gone/${randomUUID()}`
    const { waiting, asked, release } = await startWaiting()
    using client = await connectFrames(waiting.port)
    client.send(...uploadTo(path))
    await asked
    cut(client)
    await answerLater(waiting)
    release()
    // Ends only when no request is open.
    await waiting[Symbol.asyncDispose]()
    t.like(waiting.events.at(-1), { code: 'client_gone' })
    t.deepEqual(gotFor(path), [])
  })
}

test('sends nothing on where a client of HTTP/1.1 is gone while its proof is looked up', async (t) => {
  const path = `/h1/gone/${randomUUID()}`
  const { waiting, asked, release } = await startWaiting()
  const sent = httpsRequest({
    ...{ port: waiting.port, host: 'localhost', path, ca: authority.cert, agent: false },
    servername: 'localhost',
    headers: { host: 'api.example', ...credentials('GET', path) },
  })
  sent.on('error', () => {})
  sent.end()
  await asked
  sent.destroy()
  await new Promise((resolve) => sent.once('close', resolve))
  await answerLater(waiting)
  release()
  await waiting[Symbol.asyncDispose]()
  t.like(waiting.events.at(-1), { code: 'client_gone' })
  t.deepEqual(gotFor(path), [])
})

test('ends an upload with its answer, and not as if it were whole', async (t) => {
  const { promise: ended, resolve } = Promise.withResolvers<boolean>()
  application.handlers.set('/h2/early', (request, response) => {
    request.once('data', () => response.end('enough'))
    request.on('error', () => {})
    request.socket.once('close', () => resolve(request.complete))
  })
  const session = open(streaming)
  const stream = begin(session, '/h2/early', post)
  stream.write(Buffer.alloc(1000))
  t.is((await answered(stream))[':status'], 200)
  t.is(await read(stream), 'enough')
  t.false(await ended)
  await until(async () => stream.closed)
  t.is(stream.rstCode, constants.NGHTTP2_NO_ERROR)
  session.close()
})

test('cuts an answer off where the application cuts it off', async (t) => {
  application.handlers.set('/h2/broken', (_request, response) => {
    response.writeHead(200)
    response.write('half', () => response.destroy())
  })
  const session = open(gate)
  const stream = begin(session, '/h2/broken')
  await answered(stream)
  await t.throwsAsync(read(stream))
  session.close()
})

test('reads an answer as fast as the client does', async (t) => {
  const [total, chunk] = [24, Buffer.alloc(1_048_576)]
  let written = 0
  let waits = false
  application.handlers.set('/h2/large', async (_request, response) => {
    for (; written < total; written += 1) {
      if (response.write(chunk)) continue
      waits = true
      await once(response, 'drain')
      waits = false
    }
    response.end()
  })
  const session = open(gate)
  const stream = begin(session, '/h2/large')
  await answered(stream)
  let last = -1
  await until(async () => {
    const stands = waits && last === written
    last = written
    return stands || written === total
  })
  t.true(written < total, 'the gate took the whole answer')
  let bytes = 0
  for await (const part of stream) bytes += part.length
  t.is(bytes, total * chunk.length)
  session.close()
})

test('answers 500 where the application answers what HTTP/2 cannot say', async (t) => {
  application.handlers.set('/h2/strange', (_request, response) => {
    response.writeHead(200, ['Content-Type', 'text/plain', 'Content-Type', 'text/html']).end('x')
  })
  application.handlers.set('/h2/stranger', (_request, response) => {
    response.writeHead(799).end()
  })
  const session = open(gate)
  t.is((await answered(begin(session, '/h2/strange')))[':status'], 200)
  t.is((await answered(begin(session, '/h2/stranger')))[':status'], 500)
  session.close()
})

test('closes a connection on which no request comes', async (t) => {
  await using impatient = await startGate(
    {
      tls,
      limits: { headersMs: 100 },
      applications: [{ origin: audience, upstream: { url: application.url } }],
    },
    { pair },
  )
  const session = open(impatient)
  await once(session, 'close')
  t.true(session.destroyed)
})

test('finishes what has begun when it closes, and takes no more', async (t) => {
  const closing = await startGate(
    {
      tls,
      trustedProxies: ['127.0.0.1'],
      applications: [{ origin: audience, upstream: { url: application.url } }],
    },
    { pair },
  )
  const session = open(closing)
  const goneAway = once(session, 'goaway')
  const notices: number[] = []
  session.on('goaway', (_code, last) => notices.push(last))
  const stream = begin(session, '/h2/drained', { ...post, expect: '100-continue' })
  await once(stream, 'continue')
  const closed = closing[Symbol.asyncDispose]()
  const [code, lastStream] = await goneAway
  t.is(code, constants.NGHTTP2_NO_ERROR)
  // The first notice takes nothing away from requests that are under way.
  t.is(lastStream, 2 ** 31 - 1)
  stream.end('hello')
  t.is((await answered(stream))[':status'], 200)
  await read(stream)
  await closed
  t.is(gotFor('/h2/drained')[0]?.body.toString(), 'hello')
  // The second one names the last stream that is answered.
  t.is(notices.length, 2)
  t.is(notices[1], stream.id)
})

test('leaves WebSocket to HTTP/1.1, beside HTTP/2', async (t) => {
  const sockets = new WebSocketServer({ noServer: true })
  application.server.on('upgrade', (request, socket, head) => {
    sockets.handleUpgrade(request, socket, head, (client) =>
      client.on('message', (data) => client.send(`echo ${data}`)),
    )
  })
  const session = open(gate)
  const [settings] = await once(session, 'remoteSettings')
  t.false(settings.enableConnectProtocol)
  // What a client may send of headers, so that it need not find out.
  t.is(settings.maxHeaderListSize, 16_384)
  session.close()
  const client = new WebSocket(`wss://localhost:${gate.port}/h2/socket`, {
    ca: authority.cert,
    headers: { host: 'api.example', ...credentials('GET', '/h2/socket') },
  })
  await once(client, 'open')
  client.send('hello')
  const [message] = await once(client, 'message')
  t.is(`${message}`, 'echo hello')
  client.terminate()
})

test('speaks HTTP/1.1 only where the configuration says so', async (t) => {
  await using plain = await startGate(
    {
      tls: { ...tls, http2: false },
      applications: [{ origin: audience, upstream: { url: application.url } }],
    },
    { pair },
  )
  const session = open(plain)
  const [error] = await once(session, 'error')
  t.truthy(error)
})
