// What an attacker sends to a gate by HTTP/2, frame by frame: Node's client would send none of it.
import { randomUUID } from 'node:crypto'
import { constants } from 'node:http2'
import test from 'ava'
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
  endStream,
  type Frame,
  type FrameClient,
  frameTypes,
  headerBlock,
  type Outcome,
  uint32,
} from '../support/http2-frames.ts'
import { until } from '../support/until.ts'
import { accessToken, audience, dpopProof } from '../support/verify/fixtures.ts'

const {
  NGHTTP2_CANCEL,
  NGHTTP2_ENHANCE_YOUR_CALM,
  NGHTTP2_PROTOCOL_ERROR,
  NGHTTP2_REFUSED_STREAM,
} = constants

let application: TestApplication
let gate: TestGate
let impatient: TestGate
const opened = new AsyncDisposableStack()

test.before(async () => {
  const authority = await createAuthority()
  const pair = await authority.issue()
  application = opened.use(await startApplication())
  const settings = {
    tls: { certFile: 'unused', keyFile: 'unused' },
    applications: [
      {
        origin: audience,
        upstream: { url: application.url },
        bodies: { larger: 'pass', signedBytes: 1 },
        routes: [{ path: '/admin', scopes: ['admin'] }],
      },
    ],
  }
  const limits = { streams: 10, headersMs: 300, requestMs: 1000 }
  gate = opened.use(await startGate({ ...settings, limits: { streams: 10 } }, { pair }))
  impatient = opened.use(await startGate({ ...settings, limits }, { pair }))
})
test.after.always(() => opened.disposeAsync())

type Field = readonly [string, string]

interface Request {
  readonly method?: string
  readonly path?: string
  /** Instead of the usual pseudo-header fields. */
  readonly pseudo?: readonly Field[]
  readonly fields?: readonly Field[]
  readonly stream?: number
  readonly flags?: number
}

/** The fields of a request that is valid but for what is given; each has a proof of its own. */
function fieldsOf({ method = 'GET', path = '/', pseudo, fields = [] }: Request): Field[] {
  const token = accessToken()
  const htu = audience + path.replace(/\?.*/, '')
  const usual: Field[] = [
    ...[[':method', method] as const, [':scheme', 'https'] as const],
    ...[[':authority', 'api.example'] as const, [':path', path] as const],
  ]
  const credentials: Field[] = [
    ['authorization', `DPoP ${token}`],
    ['dpop', dpopProof(token, { htm: method, htu })],
  ]
  return [...(pseudo ?? usual), ...credentials, ...fields]
}

const headers = (request: Request): Frame => ({
  type: frameTypes.headers,
  flags: request.flags ?? endHeaders | endStream,
  stream: request.stream ?? 1,
  payload: headerBlock(fieldsOf(request)),
})

const data = (text: string, flags = 0): Frame => ({
  ...{ type: frameTypes.data, flags, stream: 1, payload: Buffer.from(text) },
})

const post = { method: 'POST', flags: endHeaders }
const reset = (stream = 1): Frame => ({
  ...{ type: frameTypes.reset, stream, payload: uint32(NGHTTP2_CANCEL) },
})
const protocol = { reset: NGHTTP2_PROTOCOL_ERROR }

/** Frames of a connection, by a path that no other row has, and how it must end. */
interface Row {
  readonly send: (path: string) => readonly Frame[]
  readonly outcome: Outcome
}

const pseudo = (path: string, change: Record<string, string | undefined> = {}): Field[] =>
  Object.entries({
    ...{ ':method': 'GET', ':scheme': 'https', ':authority': 'api.example', ':path': path },
    ...change,
  }).flatMap(([name, value]): Field[] => (value === undefined ? [] : [[name, value]]))

const withPseudo = (change: Record<string, string | undefined>, outcome: Outcome): Row => ({
  send: (path) => [headers({ path, pseudo: pseudo(path, change) })],
  outcome,
})
const withFields = (fields: readonly Field[], outcome: Outcome): Row => ({
  send: (path) => [headers({ path, fields })],
  outcome,
})
const withPath = (path: string, outcome: Outcome): Row => ({
  send: () => [headers({ path })],
  outcome,
})

const refused: Record<string, Row> = {
  'an upper-case field name': withFields([['X-A', '1']], protocol),
  Connection: withFields([['connection', 'close']], protocol),
  'Keep-Alive': withFields([['keep-alive', '1']], protocol),
  'Proxy-Connection': withFields([['proxy-connection', 'close']], protocol),
  'Transfer-Encoding': withFields([['transfer-encoding', 'chunked']], protocol),
  Upgrade: withFields([['upgrade', 'websocket']], protocol),
  'a TE other than trailers': withFields([['te', 'gzip']], protocol),
  'two lengths': withFields(
    [
      ['content-length', '0'],
      ['content-length', '0'],
    ],
    protocol,
  ),
  'a length that is no number': withFields([['content-length', '+1']], protocol),
  'a length without a body': withFields([['content-length', '5']], protocol),
  'a body shorter than its length': {
    send: (path) => [
      headers({ ...post, path, fields: [['content-length', '5']] }),
      data('x', endStream),
    ],
    outcome: protocol,
  },
  'a body longer than its length': {
    send: (path) => [
      headers({ ...post, path, fields: [['content-length', '1']] }),
      data('xyz', endStream),
    ],
    outcome: 'closed',
  },
  'no method': withPseudo({ ':method': undefined }, protocol),
  'no scheme': withPseudo({ ':scheme': undefined }, protocol),
  'no path': withPseudo({ ':path': undefined }, protocol),
  'an empty path': withPseudo({ ':path': '' }, protocol),
  'no authority': withPseudo({ ':authority': undefined }, protocol),
  'an unknown pseudo-header field': withPseudo({ ':version': '1.1' }, protocol),
  'a pseudo-header field of responses': withPseudo({ ':status': '200' }, protocol),
  'a pseudo-header field twice': {
    send: (path) => [headers({ path, pseudo: [...pseudo(path), [':path', '/admin']] })],
    outcome: protocol,
  },
  'a pseudo-header field after others': withFields([[':path', '/admin']], protocol),
  'another scheme': withPseudo({ ':scheme': 'http' }, { status: 400 }),
  'a scheme of its own': withPseudo({ ':scheme': 'x', ':path': 'x' }, { status: 400 }),
  'a path with a host': withPseudo({ ':path': 'https://evil.example/' }, protocol),
  'a path without a slash': withPseudo({ ':path': 'x' }, protocol),
  'a path with a fragment': withPath('/x#y', { status: 400 }),
  'a path with a space': withPath('/x HTTP/1.1', protocol),
  'a path with dot segments': withPath('/public/../admin', { status: 400 }),
  'a path with an encoded slash': withPath('/public%2fadmin', { status: 400 }),
  'a path without the scope': withPath('/admin', { status: 403 }),
  'the target *': withPseudo({ ':method': 'OPTIONS', ':path': '*' }, { status: 400 }),
  'an unknown host': withPseudo({ ':authority': 'evil.example' }, { status: 421 }),
  'user information in the host': withPseudo({ ':authority': 'a@api.example' }, protocol),
  'a host beside another authority': withFields([['host', 'evil.example']], { status: 400 }),
  'a method in lower case': withPseudo({ ':method': 'get' }, { status: 400 }),
  TRACE: withPseudo({ ':method': 'TRACE' }, { status: 400 }),
  CONNECT: withPseudo(
    { ':method': 'CONNECT', ':scheme': undefined, ':path': undefined },
    { status: 400 },
  ),
  'extended CONNECT': withPseudo({ ':method': 'CONNECT', ':protocol': 'websocket' }, protocol),
  'two proofs': withFields([['dpop', 'x']], { status: 400 }),
  'a forged client certificate': withFields([['client-cert', ':AAAA:']], { status: 400 }),
  'more header fields than the gate takes': withFields(
    Array.from({ length: 201 }, (_, at): Field => [`x-${at}`, '1']),
    { status: 431 },
  ),
  'more header fields than Node takes': withFields(
    Array.from({ length: 450 }, (): Field => ['cookie', 'a=1']),
    { reset: NGHTTP2_ENHANCE_YOUR_CALM },
  ),
  'more header bytes than the limit': {
    send: (path) => [
      headers({ path, flags: endStream, fields: [['x-a', 'a'.repeat(12_000)]] }),
      {
        ...{ type: frameTypes.continuation, flags: endHeaders, stream: 1 },
        payload: headerBlock([['x-b', 'b'.repeat(4000)]]),
      },
    ],
    outcome: { status: 431 },
  },
  'trailers with a pseudo-header field': {
    send: (path) => [
      headers({ ...post, path }),
      data('x'),
      {
        ...{ type: frameTypes.headers, flags: endHeaders | endStream, stream: 1 },
        payload: headerBlock([[':path', '/admin']]),
      },
    ],
    outcome: protocol,
  },
  'trailers that end nothing': {
    send: (path) => [
      headers({ ...post, path }),
      {
        ...{ type: frameTypes.headers, flags: endHeaders, stream: 1 },
        payload: headerBlock([['x-a', '1']]),
      },
    ],
    outcome: protocol,
  },
  'a header block that cannot be decoded': {
    send: () => [
      {
        ...{ type: frameTypes.headers, flags: endHeaders | endStream, stream: 1 },
        payload: Buffer.of(0xff, 0xff, 0xff, 0xff),
      },
    ],
    outcome: 'closed',
  },
  'a stream of an even number': {
    send: (path) => [headers({ path, stream: 2 })],
    outcome: 'closed',
  },
  'stream zero': { send: (path) => [headers({ path, stream: 0 })], outcome: 'closed' },
  'a stream that depends on itself': {
    send: () => [
      { type: frameTypes.priority, stream: 1, payload: Buffer.concat([uint32(1), Buffer.of(0)]) },
      { type: frameTypes.data, stream: 1, payload: Buffer.from('x') },
    ],
    outcome: 'closed',
  },
  'data before headers': { send: () => [data('x')], outcome: 'closed' },
  'a reset of a stream that there is not': { send: () => [reset()], outcome: 'closed' },
  'a frame between headers and their continuation': {
    send: (path) => [
      headers({ path, flags: endStream }),
      { type: frameTypes.ping, payload: Buffer.alloc(8) },
    ],
    outcome: 'closed',
  },
  'a continuation of nothing': {
    send: () => [{ type: frameTypes.continuation, flags: endHeaders, stream: 1 }],
    outcome: 'closed',
  },
  'a push by the client': {
    send: () => [{ type: frameTypes.push, flags: endHeaders, stream: 1, payload: uint32(2) }],
    outcome: 'closed',
  },
  'a frame larger than it may be': {
    send: (path) => [headers({ ...post, path }), data('x'.repeat(16_385))],
    outcome: 'closed',
  },
  'a ping of another size': {
    send: () => [{ type: frameTypes.ping, payload: Buffer.alloc(7) }],
    outcome: 'closed',
  },
  'settings on a stream': {
    send: () => [{ type: frameTypes.settings, stream: 1 }],
    outcome: 'closed',
  },
  'a window of no size': {
    send: () => [{ type: frameTypes.windowUpdate, payload: uint32(0) }],
    outcome: 'closed',
  },
  'a window beyond its largest size': {
    send: () => [{ type: frameTypes.windowUpdate, payload: uint32(2 ** 31 - 1) }],
    outcome: 'closed',
  },
  'a first window beyond its largest size': {
    send: () => [
      { type: frameTypes.settings, payload: Buffer.concat([Buffer.of(0, 4), uint32(2 ** 31)]) },
    ],
    outcome: 'closed',
  },
  'a flood of continuations': {
    send: (path) => [
      headers({ path, flags: 0 }),
      ...Array.from({ length: 2000 }, () => ({
        ...{ type: frameTypes.continuation, stream: 1, payload: headerBlock([['x-a', '1']]) },
      })),
    ],
    outcome: 'closed',
  },
}

for (const [title, { send, outcome }] of Object.entries(refused)) {
  test(`refuses ${title}`, async (t) => {
    const path = `/${randomUUID()}`
    using client = await connectFrames(gate.port)
    client.send(...send(path))
    t.deepEqual(await client.outcome(), outcome)
    const got = application.received.filter(({ url }) => url.startsWith(path))
    t.deepEqual(got, [])
  })
}

/** Fields that Node leaves out, and with which a request passes. */
const leftOut: Record<string, readonly Field[]> = {
  'a forged identity beside a second host': [
    ['host', 'api.example'],
    ['holdfast-identity', 'forged'],
  ],
  'a field name with a colon': [['x:forged', 'forged']],
  'a field name with a line break': [['x\r\nholdfast-identity', 'forged']],
  'an empty field name': [['', 'forged']],
  'a field value with a line break': [['user-agent', 'x\r\nholdfast-identity: forged']],
  'a field value with a NUL': [['user-agent', 'forged\0']],
}

for (const [title, fields] of Object.entries(leftOut)) {
  test(`strips ${title}`, async (t) => {
    const path = `/${randomUUID()}`
    using client = await connectFrames(gate.port)
    client.send(headers({ path, fields }))
    t.deepEqual(await client.outcome(), { status: 200 })
    const got = application.received.find(({ url }) => url === path)
    t.is(got?.assertion?.identity?.claims.sub, 'alice')
    t.false(got?.rawHeaders.join('\n').includes('forged'))
  })
}

test('takes no more requests at one time than the limit', async (t) => {
  application.handlers.set('/waits', () => {})
  using client = await connectFrames(gate.port)
  const streams = Array.from({ length: 11 }, (_, at) => 2 * at + 1)
  client.send(...streams.map((stream) => headers({ path: '/waits', stream })))
  t.deepEqual(await client.outcome(21), { reset: NGHTTP2_REFUSED_STREAM })
  const others = client.frames.filter(
    ({ type, stream }) => type === frameTypes.reset && stream < 21,
  )
  t.deepEqual(others, [])
})

/** Sends the same frames until the gate ends the connection. */
async function flood({ socket, send }: FrameClient, frames: (round: number) => readonly Frame[]) {
  for (let round = 0; round < 1000 && !socket.destroyed; round += 1) {
    send(...frames(round))
    await new Promise((resolve) => setImmediate(resolve))
  }
}

const floods: Record<string, { frames: (round: number) => readonly Frame[]; unread?: boolean }> = {
  'requests that are reset at once': {
    frames: (round) =>
      Array.from({ length: 10 }, (_, at) => 20 * round + 2 * at + 1).flatMap((stream) => [
        headers({ pseudo: pseudo('/nothing', { ':authority': 'evil.example' }), stream }),
        reset(stream),
      ]),
  },
  'empty frames': {
    frames: (round) => [
      ...(round === 0 ? [headers(post)] : []),
      ...Array.from({ length: 100 }, () => data('')),
    ],
  },
  'pings whose answers nobody reads': {
    unread: true,
    frames: () =>
      Array.from({ length: 500 }, () => ({ type: frameTypes.ping, payload: Buffer.alloc(8) })),
  },
  'settings whose acknowledgements nobody reads': {
    unread: true,
    frames: () => Array.from({ length: 500 }, () => ({ type: frameTypes.settings })),
  },
}

for (const [title, { frames, unread = false }] of Object.entries(floods)) {
  test(`closes a connection with a flood of ${title}`, async (t) => {
    using client = await connectFrames(gate.port)
    if (unread) client.socket.pause()
    await flood(client, frames)
    client.socket.resume()
    await until(async () => client.socket.destroyed)
    t.pass()
  })
}

test('closes a connection after a hundred malformed requests, where Node would wait for a thousand', async (t) => {
  using client = await connectFrames(gate.port)
  const malformed = pseudo('/x').filter(([name]) => name !== ':path')
  for (let at = 0; at < 150; at += 1) {
    client.send(headers({ pseudo: malformed, stream: 2 * at + 1 }))
    await new Promise((resolve) => setImmediate(resolve))
  }
  await until(async () => client.socket.destroyed)
  t.pass()
})

test('closes a connection whose first request does not come', async (t) => {
  using client = await connectFrames(impatient.port)
  // Without its end, and with pings that show life.
  client.send(headers({ flags: endStream }))
  await until(async () => client.socket.destroyed)
  t.pass()
})

test('ends a request that takes too long to come', async (t) => {
  const path = `/${randomUUID()}`
  const { promise: ended, resolve } = Promise.withResolvers<boolean>()
  application.handlers.set(path, (request) => {
    request.resume().on('error', () => {})
    request.once('close', () => resolve(request.complete))
  })
  using client = await connectFrames(impatient.port)
  client.send(headers({ ...post, path }))
  const drip = setInterval(() => client.send(data('x')), 50)
  t.teardown(() => clearInterval(drip))
  t.deepEqual(await client.outcome(), { reset: NGHTTP2_CANCEL })
  t.false(await ended)
})
