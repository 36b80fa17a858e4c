import { constants } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import http2 from 'node:http2'
import https from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import tls, { type TLSSocket } from 'node:tls'
import { pathToFileURL } from 'node:url'
import { Worker } from 'node:worker_threads'
import anyTest, { type ExecutionContext } from 'ava'
import { rememberNegotiated } from '../../packages/token-binding-tls/connection.ts'
import {
  equip,
  generateTokenBindingKey,
  isAvailable,
  TokenBindingAgent,
  type TokenBindingTlsError,
  tokenBindingOf,
} from '../../packages/token-binding-tls/index.ts'
import { signTokenBindingMessage } from '../../packages/token-binding-tls/message.ts'
import {
  equipContexts,
  type KeyParameters,
  platformName,
} from '../../packages/token-binding-tls/native.ts'
import { certificate, echo, fetchProof, keepSessions, listen, skipped } from './support.ts'

const test = skipped ? anyTest.skip : anyTest

const clientContext = (keyParameters: KeyParameters[] = ['ecdsap256'], tls13Draft = false) =>
  equipContexts(
    () => {
      const maxVersion = tls13Draft ? 'TLSv1.3' : 'TLSv1.2'
      return tls.createSecureContext({ ca: certificate.cert, maxVersion })
    },
    { role: 'client', keyParameters, tls13Draft },
  )

async function connect(t: ExecutionContext, port: number, options: tls.ConnectionOptions = {}) {
  const socket = tls.connect({
    port,
    host: '127.0.0.1',
    servername: 'localhost',
    ca: certificate.cert,
    maxVersion: 'TLSv1.2',
    ...options,
  })
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  await once(socket, 'secureConnect')
  return socket
}

/** What the server's end of each connection negotiated, in order. */
function negotiatedBy(server: tls.Server): EventEmitter & { results: (string | undefined)[] } {
  const seen = Object.assign(new EventEmitter(), { results: [] as (string | undefined)[] })
  server.on('secureConnection', (socket: TLSSocket) => {
    seen.results.push(tokenBindingOf(socket)?.negotiated)
    seen.emit('result')
  })
  return seen
}

// HTTP/2

test('knows what an HTTP/2 connection negotiated', async (t) => {
  const server = equip(() => http2.createSecureServer(certificate, echo))
  const port = await listen(t, server)
  const socket = await connect(t, port, {
    secureContext: clientContext(),
    ALPNProtocols: ['h2'],
  })
  // As the agent does: OpenSSL knows everything only after the event.
  await new Promise((resolve) => setImmediate(resolve))
  const connection = rememberNegotiated('client', socket)
  t.is(connection?.negotiated, 'ecdsap256')

  const key = await generateTokenBindingKey('ecdsap256')
  const message = signTokenBindingMessage(connection?.ekm ?? Buffer.alloc(0), key)
  const session = http2.connect(`https://localhost:${port}`, { createConnection: () => socket })
  t.teardown(() => session.destroy())
  for (const path of ['/a', '/b']) {
    const stream = session.request({ ':path': path, 'sec-token-binding': message })
    const answer = JSON.parse((await stream.setEncoding('utf8').toArray()).join(''))
    t.is(answer.negotiated, 'ecdsap256')
    t.is(answer.proof?.provided.id, key.id.toString('base64url'))
  }
})

test('knows nothing of the socket of an HTTP/2 session that is gone', async (t) => {
  const server = equip(() => http2.createSecureServer(certificate))
  const port = await listen(t, server)
  const accepted = once(server, 'session')
  const client = http2.connect(`https://localhost:${port}`, { ca: certificate.cert })
  client.on('error', () => {})
  const [session] = await accepted
  const { socket } = session
  const closed = once(session, 'close')
  session.destroy()
  await closed
  t.is(tokenBindingOf(socket), undefined)
})

// Versions, contexts and certificates

test('negotiates in TLS 1.3 only where that is configured', async (t) => {
  for (const tls13Draft of [false, true]) {
    const server = equip(() => https.createServer(certificate), { tls13Draft })
    const port = await listen(t, server)
    const seen = negotiatedBy(server)
    const result = once(seen, 'result')
    const secureContext = clientContext(['ecdsap256'], true)
    const socket = await connect(t, port, { secureContext })
    await result
    t.is(socket.getProtocol(), 'TLSv1.3')
    t.deepEqual(seen.results, [tls13Draft ? 'ecdsap256' : undefined])
  }
})

test('negotiates for names with contexts of their own', async (t) => {
  const server = equip(() => https.createServer(certificate))
  server.addContext('api.idp.example', certificate)
  const port = await listen(t, server)
  const seen = negotiatedBy(server)
  const result = once(seen, 'result')
  await connect(t, port, { servername: 'api.idp.example', secureContext: clientContext() })
  await result
  t.deepEqual(seen.results, ['ecdsap256'])
})

test('keeps its word after its certificate was reloaded while connections were open', async (t) => {
  const server = equip(() => https.createServer(certificate, echo))
  const port = await listen(t, server)
  const ca = certificate.cert
  const [before, after] = [1, 2].map(() => new TokenBindingAgent({ ca, keepAlive: true }))
  t.teardown(() => [before, after].forEach((agent) => void agent?.destroy()))
  const url = `https://localhost:${port}/`
  t.truthy((await fetchProof(url, { agent: before })).proof)
  server.setSecureContext(certificate)
  t.truthy((await fetchProof(url, { agent: after })).proof)
  t.truthy((await fetchProof(url, { agent: before })).proof)
})

test('refuses to renegotiate', async (t) => {
  const server = equip(() => https.createServer(certificate))
  const port = await listen(t, server)
  const socket = await connect(t, port, { secureContext: clientContext() })
  const error = await new Promise<Error | null>((resolve) => {
    socket.on('error', resolve)
    socket.renegotiate({}, resolve)
  })
  t.truthy(error)
})

// Resumption: RFC 8472 section 4

const ways = [
  { name: 'by ticket', options: {} },
  { name: 'by session id', options: { secureOptions: constants.SSL_OP_NO_TICKET } },
]

for (const { name, options } of ways) {
  test(`negotiates anew on a session that is resumed ${name}`, async (t) => {
    const server = equip(() => https.createServer({ ...certificate, ...options }))
    keepSessions(server)
    const port = await listen(t, server)
    const seen = negotiatedBy(server)

    let result = once(seen, 'result')
    const first = await connect(t, port, { secureContext: clientContext() })
    await result
    const session = first.getSession()
    t.truthy(session)

    const again = async (secureContext: tls.SecureContext | undefined) => {
      result = once(seen, 'result')
      const socket = await connect(t, port, {
        ...(session ? { session } : {}),
        ...(secureContext ? { secureContext } : {}),
      })
      await result
      t.true(socket.isSessionReused())
    }
    await again(clientContext(['rsa2048_pss']))
    await again(undefined)
    await again(clientContext())
    t.deepEqual(seen.results, ['ecdsap256', 'rsa2048_pss', undefined, 'ecdsap256'])
  })
}

test('gives every connection its own keying material, resumed or not', async (t) => {
  const server = equip(() => https.createServer(certificate))
  const ekms = new Set<string | undefined>()
  server.on('secureConnection', (socket: TLSSocket) => {
    ekms.add(tokenBindingOf(socket)?.ekm.toString('hex'))
    server.emit('seen')
  })
  const port = await listen(t, server)
  let seen = once(server, 'seen')
  const first = await connect(t, port, { secureContext: clientContext() })
  await seen
  const session = first.getSession()
  seen = once(server, 'seen')
  await connect(t, port, { secureContext: clientContext(), ...(session ? { session } : {}) })
  await seen
  t.is(ekms.size, 2)
  t.false(ekms.has(undefined))
})

test('keeps the two ends of a connection apart, also within one thread', async (t) => {
  const server = equip(() => https.createServer(certificate))
  const port = await listen(t, server)
  const seen = negotiatedBy(server)
  const result = once(seen, 'result')
  const socket = await connect(t, port, { secureContext: clientContext() })
  await result
  t.deepEqual(seen.results, ['ecdsap256'])
  await new Promise((resolve) => setImmediate(resolve))
  // The server has asked; the same keying material is the client's too, and waits for it.
  t.is(rememberNegotiated('server', socket), undefined)
  t.is(rememberNegotiated('client', socket)?.negotiated, 'ecdsap256')
  t.is(rememberNegotiated('client', socket), undefined)
})

// Worker threads

test('serves from worker threads, also while one is ended', async (t) => {
  const start = async () => {
    const worker = new Worker(new URL('worker.ts', import.meta.url))
    t.teardown(() => worker.terminate())
    const [{ port, ca }] = await once(worker, 'message')
    const agent = new TokenBindingAgent({ ca, keepAlive: false })
    t.teardown(() => agent.destroy())
    return { worker, ask: () => fetchProof(`https://localhost:${port}/`, { agent }) }
  }
  const [one, two] = await Promise.all([start(), start()])
  const many = (ask: () => Promise<unknown>) => Array.from({ length: 10 }, ask)

  await Promise.all([...many(one.ask), ...many(two.ask)])
  const interrupted = Promise.allSettled(many(one.ask))
  await one.worker.terminate()
  await interrupted
  for (const { proof } of await Promise.all(Array.from({ length: 10 }, two.ask))) t.truthy(proof)
})

// Misuse

test('refuses what is no server, and says so at once', (t) => {
  const promise = async () => https.createServer(certificate)
  t.throws(() => equip(promise as unknown as () => https.Server), { instanceOf: TypeError })
  t.throws(() => equip(() => ({}) as https.Server), { code: 'nothing_equipped' })
  t.throws(() => equip(() => https.createServer(certificate), { keyParameters: [] }), {
    instanceOf: TypeError,
  })
})

test('passes on what the function throws, and works afterwards', (t) => {
  const failure = new Error('no certificate today')
  const thrown = t.throws(() =>
    equip(() => {
      https.createServer(certificate)
      throw failure
    }),
  )
  t.is(thrown, failure)
  t.throws(() => equip(() => equip(() => https.createServer(certificate))), {
    message: /inside/,
  })
  t.notThrows(() => equip(() => https.createServer(certificate)))
})

// The native part

async function copyOfThePackage(t: ExecutionContext) {
  const folder = await mkdtemp(join(tmpdir(), 'token-binding-tls-'))
  t.teardown(() => rm(folder, { recursive: true }))
  for (const file of ['native.ts', 'errors.ts']) {
    await copyFile(
      new URL(`../../packages/token-binding-tls/${file}`, import.meta.url),
      join(folder, file),
    )
  }
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  const load = () => import(pathToFileURL(join(folder, 'native.ts')).href)
  return { folder, load }
}

anyTest('says what to do where the native part is not built', async (t) => {
  const { load } = await copyOfThePackage(t)
  const { isAvailable: available, loadNative } = await load()
  t.false(available())
  const error: TokenBindingTlsError = t.throws(() => loadNative())
  t.is(error.code, 'not_built')
  t.regex(error.message, /npm run build:native/)
})

anyTest('says why the native part cannot be loaded', async (t) => {
  const { folder, load } = await copyOfThePackage(t)
  await mkdir(join(folder, 'build'))
  await writeFile(join(folder, 'build', 'token-binding-tls.node'), 'not a library')
  const { isAvailable: available, loadNative } = await load()
  t.false(available())
  const error: TokenBindingTlsError = t.throws(() => loadNative())
  t.is(error.code, 'not_loadable')
  t.truthy(error.cause)
})

test('loads the native part from a prebuild', async (t) => {
  const { folder, load } = await copyOfThePackage(t)
  const prebuild = join(folder, 'prebuilds', platformName())
  await mkdir(prebuild, { recursive: true })
  await copyFile(
    new URL('../../packages/token-binding-tls/build/token-binding-tls.node', import.meta.url),
    join(prebuild, 'token-binding-tls.node'),
  )
  const { isAvailable: available } = await load()
  t.true(available())
})

test('is available here', (t) => {
  t.true(isAvailable())
})
