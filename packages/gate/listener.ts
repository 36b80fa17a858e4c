/**
 * Listens for clients, within limits, and drains when it closes.
 *
 * Proxies keep connections, and nginx answers 502 itself when a POST meets one that was just closed. A
 * connection of a proxy is therefore closed by the proxy, or with a response that says so, or when it
 * was idle for longer than the proxy keeps it.
 */
import { createServer, type IncomingMessage } from 'node:http'
import {
  createSecureServer as createHttp2Server,
  createServer as createPlainHttp2Server,
  Http2ServerRequest,
  type ServerHttp2Session,
} from 'node:http2'
import { createServer as createSecureServer } from 'node:https'
import { type AddressInfo, Server as NetServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Server as TlsServer } from 'node:tls'
import { equip } from '@holdfast/token-binding-tls'
import type { Config } from './config.ts'
import type { InboundRequest, InboundResponse } from './exchange.ts'
import type { Gate } from './gate.ts'
import { Http2Response, Http2Sessions, http2Options } from './http2.ts'

/** What a listener does with requests. Without `handleUpgrade`, those for WebSocket are ordinary ones. */
export type Handlers = Pick<Gate, 'handle' | 'allEnded' | 'close' | 'isProxy'> &
  Partial<Pick<Gate, 'handleUpgrade'>>

/**
 * A gate that listens. Disposing it stops accepting, waits for open requests and for proxies to close
 * their connections, `drainMs` at most, and then closes.
 */
export interface Listening extends AsyncDisposable {
  readonly port: number
  /** Takes another certificate for connections that begin from now on. */
  setCertificate(pair: Readonly<{ cert: string; key: string }>): void
}

/** Requests of one connection that may be unanswered: browsers and proxies send one at a time. */
const mostUnanswered = 16

/** How long clients of HTTP/2 have to learn that no more requests are taken. */
const announceMs = 1000

/**
 * Starts a listener.
 *
 * @param pair certificate and key, PEM; undefined for plain HTTP.
 * @param options `plainHttp2`: HTTP/2 without TLS and nothing else (RFC 9113 section 3.3).
 */
export async function listen(
  gate: Handlers,
  config: Pick<Config, 'listen' | 'tls' | 'limits'>,
  pair?: Readonly<{ cert: string; key: string }>,
  { plainHttp2 = false }: { plainHttp2?: boolean } = {},
): Promise<Listening> {
  const { listen: address, limits } = config
  const server = plainHttp2
    ? createPlainHttp2Server(http2Options(limits))
    : create(config, gate, pair)
  server.maxConnections = limits.connections
  const sessions = new Http2Sessions(limits)
  server.on('session', (session: ServerHttp2Session) => sessions.add(session))
  const sweep = setInterval(() => sessions.sweep(), checkMs(limits)).unref()
  const open = attach(server, gate, limits)
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.listen(address.port, address.host, resolve)
  await promise
  return {
    port: (server.address() as AddressInfo).port,
    setCertificate: (next) => isSecure(server) && server.setSecureContext(next),
    async [Symbol.asyncDispose]() {
      open.isEnding = true
      await withIn(announceMs, sessions.announceClose())
      await close(server, gate, { open, sessions, drainMs: limits.drainMs })
      clearInterval(sweep)
    },
  }
}

const checkMs = ({ headersMs }: Config['limits']) => Math.min(1000, headersMs)

/** Makes a server that does not listen yet. */
function create(
  { tls, limits }: Pick<Config, 'tls' | 'limits'>,
  { handleUpgrade }: Handlers,
  pair: Readonly<{ cert: string; key: string }> | undefined,
): Server {
  const http = {
    maxHeaderSize: limits.headerBytes,
    headersTimeout: limits.headersMs,
    requestTimeout: limits.requestMs,
    connectionsCheckingInterval: checkMs(limits),
    insecureHTTPParser: false,
    requireHostHeader: true,
    noDelay: true,
  }
  const more = {
    timeout: limits.requestMs,
    // All of them are read, and too many are refused: Node would drop those beyond its limit.
    maxHeadersCount: 0,
    shouldUpgradeCallback: handleUpgrade === undefined ? () => false : isWebSocket,
  }
  if (pair === undefined) return Object.assign(createServer(http), more)
  const secure = {
    ...http,
    ...pair,
    requestCert: tls?.clientCertificates ?? false,
    rejectUnauthorized: false,
  }
  const createSecure = () =>
    tls?.http2
      ? createHttp2Server({ ...secure, ...http2Options(limits), allowHTTP1: true })
      : createSecureServer({ ...secure, ALPNProtocols: ['http/1.1'] })
  const tls13Draft = tls?.tokenBinding === 'tls13-draft'
  const isEquipped = tls13Draft || tls?.tokenBinding === 'tls'
  return Object.assign(isEquipped ? equip(createSecure, { tls13Draft }) : createSecure(), more)
}

/** Other upgrades are ignored, as RFC 9110 section 7.8 allows: the request is an ordinary one then. */
function isWebSocket({ method, headers }: IncomingMessage): boolean {
  return method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket'
}

/** What is open at a listener. */
type Open = {
  /** Connections, with the responses that each waits for. */
  readonly connections: ReadonlyMap<Socket, ReadonlySet<InboundResponse>>
  /** From now on each response is the last one of its connection. */
  isEnding: boolean
}

/** Gives the gate its requests. */
function attach(server: Server, gate: Handlers, { keptMs }: Config['limits']): Open {
  const connections = new Map<Socket, Set<InboundResponse>>()
  const open: Open = { connections, isEnding: false }
  /** Whether one more request may wait on its connection. */
  const begin = ({ socket }: InboundRequest, response: InboundResponse): boolean => {
    const unanswered = connections.get(socket)
    // After one too many, those that were read together with it still arrive.
    if (unanswered === undefined || unanswered.size >= mostUnanswered) {
      socket.destroy()
      return false
    }
    unanswered.add(response)
    response.once('close', () => unanswered.delete(response))
    if (open.isEnding) response.shouldKeepAlive = false
    // After Node's own listener, which sets the time that clients have.
    response.once('finish', () => {
      if (unanswered.size === 1 && gate.isProxy(socket.remoteAddress)) socket.setTimeout(keptMs)
    })
    return true
  }
  // HTTP/2 bounds the requests of a connection itself.
  const handle =
    (expectsContinue: boolean) => (request: InboundRequest, response: InboundResponse) => {
      if (request instanceof Http2ServerRequest || begin(request, response)) {
        void gate.handle(request, response, expectsContinue)
      }
    }
  server.on(isSecure(server) ? 'secureConnection' : 'connection', (socket: Socket) => {
    connections.set(socket, new Set())
    socket.once('close', () => connections.delete(socket))
  })
  server.on('request', handle(false)).on('checkContinue', handle(true))
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    void gate.handleUpgrade?.(request, socket, head)
  })
  // This is no forward proxy.
  server.on('connect', (_request: unknown, client: Duplex | Http2Response) => {
    if (client instanceof Http2Response) {
      client.statusCode = 400
      client.end()
      return
    }
    client.on('error', () => {})
    client.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n', () => client.destroy())
  })
  return open
}

const isSecure = (server: Server): server is TlsServer => 'setSecureContext' in server

/** Requests that were begun get time to end; then everything is closed. */
async function close(
  server: Server,
  gate: Handlers,
  { open, sessions, drainMs }: { open: Open; sessions: Http2Sessions; drainMs: number },
): Promise<void> {
  const { connections } = open
  const { promise: closed, resolve } = Promise.withResolvers<void>()
  // Not that of HTTP, which also closes connections without a request: a proxy may be sending one.
  NetServer.prototype.close.call(server, () => resolve())
  sessions.close()
  for (const response of [...connections.values()].flatMap((each) => [...each])) {
    response.shouldKeepAlive = false
  }
  const ended = gate.allEnded().then(() => {
    for (const socket of connections.keys()) {
      if (!gate.isProxy(socket.remoteAddress)) socket.destroySoon()
    }
    return closed
  })
  await withIn(drainMs, ended)
  for (const socket of connections.keys()) socket.destroySoon()
  await withIn(1000, closed)
  for (const socket of connections.keys()) socket.destroy()
  await closed
  // Ends Node's own timer of a server.
  server.close()
  gate.close()
}

/** Waits for something, and no longer than so many milliseconds. */
async function withIn(milliseconds: number, awaited: Promise<void>): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, milliseconds)
  await Promise.race([awaited, late])
  clearTimeout(timer)
}
