// Gates that are restarted behind real proxies, with the configurations that ship, while clients upload
// and download: no request fails.
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, hash, randomBytes } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { Agent, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setImmediate } from 'node:timers/promises'
import test from 'ava'
import { parseConfig } from '../../packages/gate/config.ts'
import { freePort } from '../../src/net/free-port.ts'
import { createAuthority } from '../support/certificates.ts'
import { useFolder } from '../support/folder.ts'
import { type ProxyName, type RunningProxy, startProxy, testWith } from '../support/proxies.ts'
import { until } from '../support/until.ts'
import { startRedis } from '../support/verify/redis.ts'

const folder = useFolder(test)
const opened = new AsyncDisposableStack()
test.after.always(() => opened.disposeAsync())

/** Answers an upload with the digest of what came, and `/down` with a body whose digest is its trailer. */
async function startApplication() {
  const server = createServer(async (asked: IncomingMessage, response: ServerResponse) => {
    if (asked.url === '/down') {
      const digest = createHash('sha256')
      response.writeHead(200, { trailer: 'x-digest' })
      for (let at = 0; at < 40; at += 1) {
        const chunk = randomBytes(8192)
        digest.update(chunk)
        if (!response.write(chunk)) await once(response, 'drain')
        await setImmediate()
      }
      response.addTrailers({ 'x-digest': digest.digest('hex') })
      response.end()
      return
    }
    const digest = createHash('sha256')
    for await (const chunk of asked) digest.update(chunk)
    response.end(digest.digest('hex'))
  })
  server.keepAliveTimeout = 60_000
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

interface GateProcess extends AsyncDisposable {
  readonly child: ChildProcess
  /** Resolves when a line of this type was written `count` times. */
  says(type: string, count?: number): Promise<void>
}

function startGateProcess(file: string, ...options: string[]): GateProcess {
  const child = spawn(process.execPath, ['packages/gate/cli.ts', 'serve', '-c', file, ...options], {
    stdio: ['ignore', 'inherit', 'pipe'],
  })
  const said = new Map<string, number>()
  const progress = new EventEmitter().setMaxListeners(0)
  if (child.stderr) {
    createInterface(child.stderr).on('line', (line) => {
      const { type } = line.startsWith('{') ? JSON.parse(line) : { type: line }
      said.set(type, (said.get(type) ?? 0) + 1)
      progress.emit('line')
    })
  }
  const exited = once(child, 'exit')
  return {
    child,
    async says(type, count = 1) {
      while ((said.get(type) ?? 0) < count) {
        const ended = exited.then(() => {
          throw new Error(`the gate has ended: ${JSON.stringify([...said])}`)
        })
        await Promise.race([once(progress, 'line'), ended])
      }
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      await exited
    },
  }
}

interface Setup {
  readonly origin: string
  readonly application: string
  readonly ports: readonly { listen: number; operations: number }[]
  readonly redis: string
}

async function writeConfig({ origin, application, ports, redis }: Setup, at: number, claims = 1) {
  const here = path.join(folder, `${ports[at]?.listen}`)
  await mkdir(here, { recursive: true })
  const settings = {
    listen: { port: ports[at]?.listen },
    operations: { port: ports[at]?.operations },
    trustedProxies: ['127.0.0.1'],
    replay: { redis },
    replicas: ports.length,
    issuer: { url: 'https://as.example', jwksUri: 'https://as.example/jwks' },
    limits: ports.length > 1 ? { announceMs: 4000, drainMs: 10_000 } : { drainMs: 60_000 },
    applications: [
      {
        ...{ origin, mode: 'plain', upstream: { url: application } },
        claims: Array.from({ length: claims }, (_, each) => `claim-${each}`),
        routes: [{ path: '/', access: 'public' }],
      },
    ],
  }
  const file = path.join(here, 'gate.yaml')
  await writeFile(file, JSON.stringify(settings))
  return file
}

interface Load {
  readonly failures: string[]
  /** Resolves when every kind of request has been answered so many times more. */
  progress(count: number): Promise<void>
  stop(): Promise<void>
}

/** Sends a request; throws where the answer is not 200 or does not end. */
async function sendTo(
  { publicOrigin, ca }: RunningProxy,
  agent: Agent | undefined,
  method: string,
  target: string,
  chunks: readonly Buffer[],
) {
  const { hostname, port } = new URL(publicOrigin)
  const headers = { ...(chunks.length === 1 && { 'content-length': chunks[0]?.length }) }
  const asked = request({ hostname, port, method, path: target, headers, agent, ca })
  const answer = once(asked, 'response') as Promise<[IncomingMessage]>
  answer.catch(() => {})
  for (const chunk of chunks) {
    if (!asked.write(chunk)) await Promise.race([once(asked, 'drain'), answer])
    await setImmediate()
  }
  asked.end()
  const [response] = await answer
  const body: Buffer[] = []
  for await (const chunk of response) body.push(chunk)
  if (response.statusCode !== 200) throw new Error(`${response.statusCode}`)
  return { body: Buffer.concat(body), trailers: response.trailers }
}

/** Uploads, downloads and small requests, each on connections that are kept and on new ones. */
function startLoad(proxy: RunningProxy): Load {
  const kept = new Agent({ ca: proxy.ca, keepAlive: true, maxSockets: 24 })
  const failures: string[] = []
  const done = new Map<string, number>()
  const answered = new EventEmitter().setMaxListeners(0)
  let isStopped = false

  const send = (method: string, target: string, chunks: readonly Buffer[]) =>
    sendTo(proxy, kept, method, target, chunks)

  const kinds: Record<string, () => Promise<boolean>> = {
    async upload() {
      const chunks = Array.from({ length: 40 }, () => randomBytes(8192))
      const { body } = await send('POST', '/up', chunks)
      return body.toString() === hash('sha256', Buffer.concat(chunks))
    },
    async download() {
      const { body, trailers } = await send('GET', '/down', [])
      return (
        body.length === 40 * 8192 &&
        (trailers['x-digest'] ?? hash('sha256', body)) === hash('sha256', body)
      )
    },
    async post() {
      const chunk = randomBytes(100)
      const { body } = await send('POST', '/small', [chunk])
      return body.toString() === hash('sha256', chunk)
    },
    get: async () => (await send('GET', '/small', [])).body.length === 64,
  }

  async function work(kind: string, act: () => Promise<boolean>) {
    while (!isStopped) {
      const outcome = await act().catch((error) => `${kind}: ${error}`)
      if (outcome !== true) failures.push(outcome === false ? `${kind}: cut off` : outcome)
      done.set(kind, (done.get(kind) ?? 0) + 1)
      answered.emit('answer')
    }
  }
  const workers = Object.entries(kinds).flatMap(([kind, act]) =>
    [1, 2, 3].map(() => work(kind, act)),
  )

  return {
    failures,
    async progress(count) {
      const least = new Map(Object.keys(kinds).map((kind) => [kind, (done.get(kind) ?? 0) + count]))
      while ([...least].some(([kind, number]) => (done.get(kind) ?? 0) < number)) {
        await once(answered, 'answer')
      }
    },
    async stop() {
      isStopped = true
      await Promise.all(workers)
      kept.destroy()
    },
  }
}

async function setUp(name: ProxyName, gates: number) {
  const { url: redis } = opened.use(await startRedis())
  const application = opened.use(await startApplication())
  const port = await freePort()
  const ports = []
  for (let at = 0; at < gates; at += 1) {
    ports.push({ listen: await freePort(), operations: await freePort() })
  }
  const setup = { origin: `https://localhost:${port}`, application: application.url, ports, redis }
  const [first, ...others] = ports
  const start = async () =>
    startProxy(name, {
      upstream: first?.listen ?? 0,
      authority: await createAuthority(),
      ports: { public: port, mtls: port },
      templates: {
        folder: 'docker/gate/in-front',
        variables: {
          GATE_UPSTREAM: `127.0.0.1:${first?.listen}`,
          GATE_OPERATIONS_PORT: `${first?.operations}`,
        },
      },
      edit: (configuration) =>
        others.reduce(
          (text, { listen, operations }, at) =>
            `${text}    server gate-${at + 2} 127.0.0.1:${listen} check port ${operations} inter 1s fall 2 rise 1\n`,
          configuration,
        ),
    })
  return { setup, start }
}

/** Starts a proxy in front of gates that are ready, and waits until it forwards to one of them. */
async function startInFront(start: () => Promise<RunningProxy>): Promise<RunningProxy> {
  const proxy = await start()
  await until(() =>
    sendTo(proxy, undefined, 'GET', '/small', []).then(
      () => true,
      () => false,
    ),
  )
  return proxy
}

const isReady = (port: number | undefined) => async () =>
  fetch(`http://127.0.0.1:${port}/readyz`).then(
    ({ status }) => status === 200,
    () => false,
  )

for (const name of ['nginx', 'haproxy'] as const) {
  testWith(test, name)(
    `${name} loses no request while its gate is replaced at one address`,
    async (t) => {
      t.timeout(120_000)
      const { setup, start } = await setUp(name, 1)
      const file = await writeConfig(setup, 0)
      await using gate = startGateProcess(file, '--replaceable')
      await gate.says('listening')
      await until(isReady(setup.ports[0]?.operations))
      await using proxy = await startInFront(start)
      const load = startLoad(proxy)
      await load.progress(5)
      for (const round of [1, 2, 3]) {
        gate.child.kill('SIGUSR2')
        await gate.says('replaced', round)
        await load.progress(10)
      }
      await load.stop()
      t.deepEqual(load.failures, [])
    },
  )

  testWith(test, name)(
    `${name} loses no request while its gate reads another configuration`,
    async (t) => {
      t.timeout(120_000)
      const { setup, start } = await setUp(name, 1)
      const file = await writeConfig(setup, 0)
      await using gate = startGateProcess(file)
      await gate.says('listening')
      await until(isReady(setup.ports[0]?.operations))
      await using proxy = await startInFront(start)
      const load = startLoad(proxy)
      await load.progress(5)
      for (const round of [1, 2, 3]) {
        await writeConfig(setup, 0, round + 1)
        await gate.says('reloaded', round)
        await load.progress(10)
      }
      await load.stop()
      t.deepEqual(load.failures, [])
    },
  )
}

testWith(test, 'haproxy')(
  'haproxy loses no request while each of two gates is stopped and started again',
  async (t) => {
    t.timeout(120_000)
    const { setup, start } = await setUp('haproxy', 2)
    const files = [await writeConfig(setup, 0), await writeConfig(setup, 1)]
    const gates = files.map((file) => startGateProcess(file))
    for (const [at, gate] of gates.entries()) {
      await gate.says('listening')
      await until(isReady(setup.ports[at]?.operations))
    }
    await using proxy = await startInFront(start)
    const load = startLoad(proxy)
    await load.progress(10)
    for (const [at, file] of files.entries()) {
      await gates[at]?.[Symbol.asyncDispose]()
      await load.progress(10)
      const next = startGateProcess(file)
      gates[at] = next
      await next.says('listening')
      // Until it has requests again.
      await load.progress(10)
    }
    await load.stop()
    for (const gate of gates) await gate[Symbol.asyncDispose]()
    t.deepEqual(load.failures, [])
  },
)

test('the nginx that ships closes connections before the gate does', async (t) => {
  const nginx = await readFile('docker/gate/in-front/nginx.conf.template', 'utf8')
  const keptMs = Number(/keepalive_timeout (\d+)s/.exec(nginx)?.[1]) * 1000
  const { limits } = parseConfig(await readFile('docker/gate.yaml', 'utf8'))
  t.true(keptMs < limits.drainMs)
  t.true(keptMs < limits.keptMs)
})
