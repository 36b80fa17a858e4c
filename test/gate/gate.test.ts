import { createPublicKey, verify as cryptoVerify, hash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import { connect } from 'node:net'
import test from 'ava'
import { verifySignature } from 'http-message-sig'
import { WebSocket, WebSocketServer } from 'ws'
import { signGateRequest } from '../../packages/verify/gate.ts'
import {
  gateKey,
  gateVerifierWith,
  now,
  startApplication,
  startGate,
  type TestApplication,
  type TestGate,
} from '../support/gate.ts'
import { accessToken, audience, dpopProof, start } from '../support/verify/fixtures.ts'

let application: TestApplication
let gate: TestGate
let passing: TestGate
const opened = new AsyncDisposableStack()

test.before(async () => {
  application = opened.use(await startApplication())
  const settings = {
    origin: audience,
    upstream: { url: application.url },
    requestHeaders: ['x-checksum'],
    routes: [
      { path: '/public', access: 'public' },
      { path: '/admin', scopes: ['admin'] },
    ],
  }
  gate = opened.use(await startGate({ applications: [settings] }))
  passing = opened.use(
    await startGate({
      applications: [{ ...settings, bodies: { larger: 'pass' } }],
    }),
  )
})
test.after.always(() => opened.disposeAsync())

/** Credentials for one request. */
function credentials(method: string, path: string, claims: Record<string, unknown> = {}) {
  const token = accessToken(claims)
  const htu = audience + path.replace(/\?.*/, '')
  return { authorization: `DPoP ${token}`, dpop: dpopProof(token, { htm: method, htu }) }
}

async function send(
  { port }: Pick<TestGate, 'port'>,
  path: string,
  { body, ...options }: RequestOptions & { body?: string | Buffer } = {},
) {
  const { method = 'GET', headers = {} } = options
  const sent = httpRequest({
    port,
    host: '127.0.0.1',
    path,
    agent: false,
    method,
    headers: { host: 'api.example', ...credentials(method, path), ...headers },
  })
  sent.end(body)
  const [answer] = (await once(sent, 'response')) as [IncomingMessage]
  const chunks: Buffer[] = []
  for await (const chunk of answer) chunks.push(chunk)
  const text = Buffer.concat(chunks).toString()
  return { status: answer.statusCode, headers: answer.headers, text, trailers: answer.trailers }
}

const lastOf = (path: string) => {
  const found = application.received.findLast(({ url }) => url.split('?')[0] === path)
  if (found === undefined) throw new Error(`the application got nothing for ${path}`)
  return found
}

const fieldOf = (fields: readonly string[], name: string) =>
  fields.find((_, at) => at % 2 === 1 && fields[at - 1]?.toLowerCase() === name)

test('forwards a verified request with an assertion that the application accepts', async (t) => {
  const path = `/notes/${randomUUID()}`
  const { status, text } = await send(gate, `${path}?limit=3`, {
    method: 'POST',
    headers: { 'content-type': 'text/plain' },
    body: 'hello',
  })
  t.is(status, 200, text)
  const { assertion, code, rawHeaders, body, url } = lastOf(path)
  t.is(code, undefined)
  t.is(url, `${path}?limit=3`)
  t.is(body.toString(), 'hello')
  t.is(assertion?.identity?.claims.sub, 'alice')
  t.deepEqual(assertion?.identity?.methods, ['dpop'])
  t.false('cnf' in (assertion?.identity?.claims ?? {}))
  t.true(assertion?.bodySigned)
  // Nothing that could be used elsewhere.
  t.is(fieldOf(rawHeaders, 'authorization'), undefined)
  t.is(fieldOf(rawHeaders, 'dpop'), undefined)
})

test('writes signatures that another implementation of RFC 9421 verifies', async (t) => {
  const path = `/foreign/${randomUUID()}`
  await send(gate, path, { method: 'PUT', headers: { 'content-type': 'text/plain' }, body: 'x' })
  const { rawHeaders } = lastOf(path)
  const fields = rawHeaders.flatMap((name, at) =>
    at % 2 === 0 ? [{ name, value: rawHeaders[at + 1] as string }] : [],
  )
  const key = createPublicKey({ format: 'jwk', key: { ...gateKey.publicJwk } })
  const verified = await verifySignature(
    { kind: 'request', method: 'PUT', targetUri: audience + path, fields },
    {
      label: 'gate',
      policy: {
        algorithms: ['ed25519'],
        requiredComponents: [
          ...['@method', '@target-uri', 'content-digest', 'content-type', 'holdfast-identity'],
        ],
        requiredParameters: ['created', 'expires', 'nonce', 'keyid', 'tag'],
        now: start,
      },
      resolveVerifier: () => ({
        algorithm: 'ed25519',
        verify: async (data, signature) => cryptoVerify(null, data, key, signature),
      }),
    },
  )
  t.is(verified.parameters.tag, 'holdfast-gate')
  t.is(fieldOf(rawHeaders, 'content-digest'), `sha-256=:${hash('sha256', 'x', 'base64')}:`)
})

test('uses a proof up once', async (t) => {
  const headers = credentials('GET', '/once')
  t.is((await send(gate, '/once', { headers })).status, 200)
  const again = await send(gate, '/once', { headers })
  t.is(again.status, 401)
  t.regex(`${again.headers['www-authenticate']}`, /DPoP .*error="invalid_dpop_proof"/)
})

test('leaves the proof to the application in pass mode, and verifies the rest', async (t) => {
  await using other = await startGate({
    applications: [{ origin: audience, upstream: { url: application.url }, mode: 'pass' }],
  })
  const headers = credentials('GET', '/passed')
  t.is((await send(other, '/passed', { headers })).status, 200)
  t.is((await send(other, '/passed', { headers })).status, 200)
  const { rawHeaders, code } = lastOf('/passed')
  t.is(code, 'gate_missing')
  t.is(fieldOf(rawHeaders, 'authorization'), headers.authorization)
  t.is(fieldOf(rawHeaders, 'dpop'), headers.dpop)
  const elsewhere = await send(other, '/other', { headers })
  t.is(elsewhere.status, 401)
})

test('writes plain identity headers in plain mode', async (t) => {
  await using other = await startGate({
    applications: [{ origin: audience, upstream: { url: application.url }, mode: 'plain' }],
  })
  const headers = {
    'x-holdfast-subject': 'mallory',
    ...credentials('GET', '/plain', { sub: 'zoë\r\n' }),
  }
  t.is((await send(other, '/plain', { headers })).status, 200)
  const { rawHeaders } = lastOf('/plain')
  const subjects = rawHeaders.filter((_, at) => rawHeaders[at - 1] === 'X-Holdfast-Subject')
  t.deepEqual(subjects, ['zo%C3%AB%0D%0A'])
  t.is(fieldOf(rawHeaders, 'authorization'), undefined)
})

test('applies the rule of the longest path', async (t) => {
  t.is((await send(gate, '/admin/users')).status, 403)
  const headers = credentials('GET', '/admin/users', { scope: 'notes:read admin' })
  t.is((await send(gate, '/admin/users', { headers })).status, 200)
  t.is((await send(gate, '/public/x', { headers: { authorization: '', dpop: '' } })).status, 200)
  t.is(lastOf('/public/x').assertion?.identity, undefined)
})

test('streams an answer as it comes, with its trailers', async (t) => {
  const { promise: seen, resolve: see } = Promise.withResolvers<void>()
  application.handlers.set('/events', async (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', trailer: 'x-checksum' })
    response.write('data: 1\n\n')
    await seen
    response.addTrailers({ 'x-checksum': 'abc' })
    response.end('data: 2\n\n')
  })
  const sent = httpRequest({
    ...{ port: gate.port, host: '127.0.0.1', path: '/events', agent: false },
    headers: { host: 'api.example', ...credentials('GET', '/events') },
  })
  sent.end()
  const [answer] = (await once(sent, 'response')) as [IncomingMessage]
  const chunks: string[] = []
  for await (const chunk of answer) {
    chunks.push(`${chunk}`)
    see()
  }
  t.deepEqual(chunks, ['data: 1\n\n', 'data: 2\n\n'])
  t.deepEqual(answer.trailers, { 'x-checksum': 'abc' })
})

test('passes on a large upload with its trailers, unsigned where the configuration says so', async (t) => {
  const path = '/uploads/large'
  const body = Buffer.alloc(300_000, 'x')
  t.is((await send(gate, path, { method: 'POST', body })).status, 413)
  const sent = httpRequest({
    ...{ port: passing.port, host: '127.0.0.1', path, agent: false, method: 'POST' },
    headers: {
      ...{ host: 'api.example', 'transfer-encoding': 'chunked' },
      ...credentials('POST', path),
    },
  })
  sent.write(body)
  sent.addTrailers({ 'x-checksum': 'abc', 'holdfast-identity': 'forged' })
  sent.end()
  const [answer] = (await once(sent, 'response')) as [IncomingMessage]
  answer.resume()
  t.is(answer.statusCode, 200)
  const got = lastOf(path)
  t.deepEqual(got.body, body)
  t.deepEqual(got.trailers, ['x-checksum', 'abc'])
  t.false(got.assertion?.bodySigned)
})

test('cuts an answer off where the application cuts it off', async (t) => {
  application.handlers.set('/broken', (_request, response) => {
    response.writeHead(200, { 'content-length': '100' })
    response.write('half', () => response.destroy())
  })
  await t.throwsAsync(send(gate, '/broken'), { message: /aborted|hang up/ })
})

test('answers 504 where the application is silent, and 502 where none answers', async (t) => {
  application.handlers.set('/silent', () => {})
  const timeouts = { responseMs: 50 }
  await using impatient = await startGate({
    applications: [{ origin: audience, upstream: { url: application.url }, timeouts }],
  })
  t.is((await send(impatient, '/silent')).status, 504)
  await using lost = await startGate({
    applications: [{ origin: audience, upstream: { url: 'http://127.0.0.1:1' } }],
  })
  t.is((await send(lost, '/lost')).status, 502)
})

test('ends an upload at the application where the client ends it early', async (t) => {
  const path = '/uploads/cut'
  const { promise: ended, resolve } = Promise.withResolvers<boolean>()
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  application.handlers.set(path, (request) => {
    request.once('data', begin)
    request.on('error', () => {})
    request.once('close', () => resolve(request.complete))
  })
  const sent = httpRequest({
    ...{ port: passing.port, host: '127.0.0.1', path, agent: false, method: 'POST' },
    headers: {
      ...{ host: 'api.example', 'transfer-encoding': 'chunked' },
      ...credentials('POST', path),
    },
  })
  sent.on('error', () => {})
  sent.write(Buffer.alloc(300_000, 'x'))
  await begun
  sent.destroy()
  t.false(await ended)
})

test('tells the application when a client gives up', async (t) => {
  const { promise: gone, resolve } = Promise.withResolvers<void>()
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  application.handlers.set('/abandoned', (_request, response) => {
    response.once('close', resolve)
    begin()
  })
  const sent = httpRequest({
    ...{ port: gate.port, host: '127.0.0.1', path: '/abandoned', agent: false },
    headers: { host: 'api.example', ...credentials('GET', '/abandoned') },
  })
  sent.on('error', () => {})
  sent.end()
  await begun
  sent.destroy()
  await gone
  t.pass()
})

test('joins WebSockets, and refuses those without a proof', async (t) => {
  const sockets = new WebSocketServer({ noServer: true })
  application.server.on('upgrade', (request, socket, head) => {
    const { method = '', url = '', rawHeaders } = request
    gateVerifierWith()
      .verify({ method, url, headers: rawHeaders })
      .then(() =>
        sockets.handleUpgrade(request, socket, head, (client) =>
          client.on('message', (data) => client.send(`echo ${data}`)),
        ),
      )
      .catch(() => socket.destroy())
  })
  const url = `ws://127.0.0.1:${gate.port}/socket`
  const headers = { host: 'api.example', ...credentials('GET', '/socket') }
  const client = new WebSocket(url, { headers })
  await once(client, 'open')
  client.send('hello')
  const [message] = await once(client, 'message')
  t.is(`${message}`, 'echo hello')
  client.close()
  await once(client, 'close')
  const again = new WebSocket(url, { headers })
  const [error] = (await once(again, 'error')) as [Error]
  t.regex(error.message, /401/)
})

test('asks for the body only of a request that passes', async (t) => {
  const expecting = (headers: Record<string, string>) => {
    const sent = httpRequest({
      ...{ port: gate.port, host: '127.0.0.1', path: '/expect', agent: false, method: 'POST' },
      headers: { host: 'api.example', expect: '100-continue', 'content-length': '5', ...headers },
    })
    sent.flushHeaders()
    return sent
  }
  const refused = expecting({})
  const [answer] = (await once(refused, 'response')) as [IncomingMessage]
  t.is(answer.statusCode, 401)
  refused.destroy()
  const accepted = expecting(credentials('POST', '/expect'))
  await once(accepted, 'continue')
  accepted.end('hello')
  const [second] = (await once(accepted, 'response')) as [IncomingMessage]
  second.resume()
  t.is(second.statusCode, 200)
  t.is(lastOf('/expect').body.toString(), 'hello')
})

test('finishes an upload that has begun when it closes', async (t) => {
  const closing = await startGate({
    applications: [{ origin: audience, upstream: { url: application.url } }],
  })
  const socket = connect(closing.port, '127.0.0.1')
  const { authorization, dpop } = credentials('POST', '/drained')
  socket.write(
    `POST /drained HTTP/1.1\r\nHost: api.example\r\nAuthorization: ${authorization}\r\nDPoP: ${dpop}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n`,
  )
  const [continued] = (await once(socket, 'data')) as [Buffer]
  t.regex(continued.toString(), /^HTTP\/1.1 100/)
  const closed = closing[Symbol.asyncDispose]()
  socket.write('hello')
  let text = ''
  for await (const chunk of socket) text += chunk
  t.regex(text, /^HTTP\/1.1 200[\s\S]*connection: close/i)
  await closed
  t.is(lastOf('/drained').body.toString(), 'hello')
})

/** A connection that is kept: sends requests of a public route, one at a time. */
function keepConnection({ port }: Pick<TestGate, 'port'>, localAddress: string) {
  const socket = connect({ port, host: '127.0.0.1', localAddress })
  socket.on('error', () => {})
  return {
    socket,
    async ask() {
      socket.write('GET /public HTTP/1.1\r\nHost: api.example\r\n\r\n')
      let text = ''
      while (!text.endsWith('\r\n0\r\n\r\n') && !/}$/.test(text)) {
        const [chunk] = (await once(socket, 'data')) as [Buffer]
        text += chunk
      }
      return text
    },
  }
}

const ofProxies = () => ({
  trustedProxies: ['127.0.0.1'],
  applications: [
    {
      origin: audience,
      upstream: { url: application.url },
      routes: [{ path: '/public', access: 'public' }],
    },
  ],
})

test('closes no connection that a proxy keeps before a response has said so', async (t) => {
  const closing = await startGate(ofProxies())
  const proxy = keepConnection(closing, '127.0.0.1')
  const client = keepConnection(closing, '127.0.0.2')
  t.notRegex(await proxy.ask(), /connection: close/i)
  await client.ask()
  const clientClosed = once(client.socket, 'close')
  const closed = closing[Symbol.asyncDispose]()
  client.socket.resume()
  // Nobody else's connections wait for a request.
  await clientClosed
  t.false(proxy.socket.destroyed)
  const proxyClosed = once(proxy.socket, 'close')
  t.regex(await proxy.ask(), /^HTTP\/1.1 200[\s\S]*connection: close/i)
  await proxyClosed
  await closed
})

test('waits no longer than drainMs for a connection that a proxy keeps', async (t) => {
  const closing = await startGate({ ...ofProxies(), limits: { drainMs: 50 } })
  const proxy = keepConnection(closing, '127.0.0.1')
  await proxy.ask()
  const proxyClosed = once(proxy.socket, 'close')
  proxy.socket.resume()
  await closing[Symbol.asyncDispose]()
  await proxyClosed
  t.true(proxy.socket.destroyed)
})

test('keeps connections of proxies for keptMs, and those of others for less', async (t) => {
  await using kept = await startGate({ ...ofProxies(), limits: { keptMs: 1000 } })
  const client = keepConnection(kept, '127.0.0.2')
  await client.ask()
  const proxy = keepConnection(kept, '127.0.0.1')
  await proxy.ask()
  proxy.socket.resume()
  // Five seconds for others, by Node: here they outlive the proxy's.
  await once(proxy.socket, 'close')
  t.false(client.socket.closed)
  t.regex(await client.ask(), /^HTTP\/1.1 200/)
  client.socket.destroy()
})

test('publishes its keys at every origin', async (t) => {
  const path = '/.well-known/holdfast-gate/jwks.json'
  const { status, text } = await send(gate, path, { headers: { authorization: '', dpop: '' } })
  t.is(status, 200)
  t.deepEqual(JSON.parse(text), { keys: [gateKey.publicJwk] })
})

test('signs with ES256 as well', async (t) => {
  const { readKey } = await import('../../packages/gate/load.ts')
  const { makeKey } = await import('../support/verify/keys.ts')
  const pem = makeKey().privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
  const { key, keyId, publicJwk } = await readKey(pem)
  const request = { method: 'GET', targetUri: `${audience}/a`, headers: [] }
  const identity = { claims: { iss: 'https://as.example', sub: 'alice' }, methods: [] }
  const headers = signGateRequest(request, {
    ...{ key, keyId, audience, identity, lifetime: 10, now: start },
    digest: hash('sha256', '', 'buffer'),
  })
  const verifier = gateVerifierWith({ jwks: { keys: [publicJwk] }, now })
  const assertion = await verifier.verify({ method: 'GET', url: '/a', headers })
  t.is(assertion.keyId, keyId)
})
