/** A gate that runs: listeners, and the files that it watches. */
import { watch } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Fetch } from '@holdfast/verify'
import { keySetPath } from './admit.ts'
import { type Config, ConfigError } from './config.ts'
import { type GateEventListener, quietly } from './events.ts'
import type { InboundRequest, InboundResponse } from './exchange.ts'
import { createGate, type Gate } from './gate.ts'
import { type Listening, listen } from './listener.ts'
import { type Loaded, loadConfig } from './load.ts'
import { createMetrics, type Metrics } from './metrics.ts'
import { openStores } from './stores.ts'

/** What a gate is started with. */
export type RunOptions = Readonly<{
  onEvent?: GateEventListener
  now?: () => number
  fetch?: Fetch
  /** Whether another process can serve at the same addresses: both must see used proofs and sessions. */
  isReplaceable?: boolean
}>

/** A running gate. */
export interface RunningGate extends AsyncDisposable {
  readonly port: number
  readonly forwardAuthPort: number | undefined
  readonly operationsPort: number | undefined
  /** Reads the file again. A configuration that cannot be used changes nothing. */
  reload(): Promise<boolean>
  /** Another process serves at the addresses: the gate is closed without announcing it. */
  handOver(): Promise<void>
}

/** Settings that are read once: a listener and its limits cannot change while it listens. */
const fixed = ['listen', 'limits', 'operations', 'replicas', 'forwardAuth', 'replay'] as const

/** Milliseconds in which several changes of files are one. */
const settleMs = 100

/**
 * Starts the gate of a configuration file, and follows the file and those that it names.
 *
 * @throws {@link ConfigError}
 */
export async function runGate(file: string, options: RunOptions = {}): Promise<RunningGate> {
  await using opened = new AsyncDisposableStack()
  const metrics = createMetrics()
  const report = quietly((event) => {
    metrics.count(event)
    options.onEvent?.(event)
  })
  let loaded = await loadConfig(file)
  if (options.isReplaceable && loaded.config.replay === undefined) {
    throw new ConfigError(['A gate that can be replaced needs replay, which both processes see.'])
  }
  const { replay, sessions } = opened.use(await openStores(loaded.config, options.now))
  const gate = createGate({ ...loaded, ...options, onEvent: report, replay, sessions })
  const operations = opened.use(await listenForOperations(gate, loaded.config, metrics))
  const listeners: Listening[] = []
  // At the same time: each waits for all requests of the gate.
  opened.defer(async () => {
    await Promise.all(listeners.map((each) => each[Symbol.asyncDispose]()))
  })
  const listening = await listen(gate, loaded.config, loaded.pair)
  listeners.push(listening)
  const asked = loaded.config.forwardAuth && (await listenForProxies(gate, loaded.config))
  if (asked) listeners.push(asked)
  let isHandedOver = false

  async function reload(): Promise<boolean> {
    try {
      const next = await loadConfig(file)
      checkFixed(loaded, next)
      gate.replace(next)
      if (next.pair) listening.setCertificate(next.pair)
      loaded = next
      report({ type: 'reloaded' })
      return true
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      report({ type: 'reload_failed', problems: error.problems })
      return false
    }
  }

  opened.use(follow(() => loaded.paths, reload))
  const open = opened.move()
  return {
    port: listening.port,
    forwardAuthPort: asked?.port,
    operationsPort: operations.port,
    reload,
    async handOver() {
      isHandedOver = true
      await operations[Symbol.asyncDispose]()
    },
    async [Symbol.asyncDispose]() {
      operations.drain()
      const { announceMs } = loaded.config.limits
      if (announceMs > 0 && !isHandedOver) await delay(announceMs)
      await open.disposeAsync()
    },
  }
}

function checkFixed({ config, pair }: Loaded, next: Loaded): void {
  const changed = fixed.filter(
    (name) => JSON.stringify(config[name]) !== JSON.stringify(next.config[name]),
  )
  const { certFile: _cert, keyFile: _key, ...tls } = config.tls ?? {}
  const { certFile: _nextCert, keyFile: _nextKey, ...nextTls } = next.config.tls ?? {}
  const tlsChanged =
    JSON.stringify(tls) !== JSON.stringify(nextTls) ||
    (pair === undefined) !== (next.pair === undefined)
  const names = [...changed, ...(tlsChanged ? ['tls'] : [])]
  if (names.length > 0) {
    throw new ConfigError([`A change of ${names.join(', ')} needs a restart of the gate.`])
  }
}

/**
 * Calls `changed` when one of the files has changed. Folders are watched, for editors and Kubernetes
 * replace files by others of the same name.
 */
function follow(paths: () => readonly string[], changed: () => Promise<unknown>): Disposable {
  let timer: NodeJS.Timeout | undefined
  const folders = new Set(paths().map((each) => path.dirname(each)))
  const watchers = [...folders].map((folder) => {
    const watcher = watch(folder, { persistent: false }, () => {
      clearTimeout(timer)
      timer = setTimeout(() => void changed(), settleMs)
    })
    // A folder that is gone tells of nothing any more; the gate continues.
    watcher.on('error', () => watcher.close())
    return watcher
  })
  return {
    [Symbol.dispose]() {
      clearTimeout(timer)
      for (const watcher of watchers) watcher.close()
    },
  }
}

interface Operations extends AsyncDisposable {
  readonly port: number | undefined
  /** From now on the gate is not ready. */
  drain(): void
}

/** Listens for proxies that ask, by plain HTTP or gRPC, with the same limits. */
export async function listenForProxies(
  gate: Gate,
  { forwardAuth, limits }: Pick<Config, 'forwardAuth' | 'limits'>,
): Promise<Listening> {
  const { host = '127.0.0.1', port = 0, proxy } = forwardAuth ?? {}
  if (proxy === 'envoy-grpc') {
    const { createEnvoyHandlers } = await import('./envoy/grpc.ts')
    const config = { listen: { host, port }, limits, tls: undefined }
    return listen(createEnvoyHandlers(gate, limits), config, undefined, { plainHttp2: true })
  }
  const handle = (request: InboundRequest, response: InboundResponse) =>
    gate.authorize(request, response)
  return listen(
    { handle, allEnded: gate.allEnded, close: gate.close, isProxy: gate.isProxy },
    { listen: { host, port }, limits, tls: undefined },
  )
}

/** `/livez` while the process answers, `/readyz` until it begins to close, `/metrics`, and the keys. */
async function listenForOperations(
  gate: Gate,
  { operations }: Config,
  metrics: Metrics,
): Promise<Operations> {
  let ready = true
  const drain = () => {
    ready = false
  }
  if (operations === undefined) {
    return { port: undefined, drain, [Symbol.asyncDispose]: () => Promise.resolve() }
  }
  const server = createServer(async (request, response) => {
    const answer = async (contentType: string, text: string | Promise<string>) => {
      response.writeHead(200, { 'Content-Type': contentType }).end(await text)
    }
    if (request.url === '/livez' || (request.url === '/readyz' && ready)) {
      await answer('text/plain', 'ok\n')
    } else if (request.url === '/metrics') await answer(metrics.contentType, metrics.render())
    else if (request.url === keySetPath) await answer('application/jwk-set+json', gate.keySet())
    else response.writeHead(request.url === '/readyz' ? 503 : 404).end()
  })
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject).listen(operations.port, operations.host, resolve)
  await promise
  return {
    port: (server.address() as AddressInfo).port,
    drain,
    async [Symbol.asyncDispose]() {
      const closed = Promise.withResolvers<void>()
      server.close(() => closed.resolve())
      server.closeAllConnections()
      await closed.promise
    },
  }
}
