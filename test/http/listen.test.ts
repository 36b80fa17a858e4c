import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import http, { type RequestListener } from 'node:http'
import https, { type RequestOptions } from 'node:https'
import { connect, type Socket } from 'node:net'
import path from 'node:path'
import tls from 'node:tls'
import test from 'ava'
import { parseConfig } from '../../src/config/config.ts'
import { listeningSockets } from '../../src/http/acceptors.ts'
import { developmentCertificate } from '../../src/http/development-authority.ts'
import { type Listening, listen } from '../../src/http/listen.ts'
import { mostUnanswered } from '../../src/http/unanswered-requests.ts'
import { freePort } from '../../src/net/free-port.ts'
import { ListenError } from '../../src/net/listen-error.ts'
import { useFolder } from '../support/folder.ts'
import { until } from '../support/until.ts'

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

/** A handler that answers the first request when it is told to. */
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
