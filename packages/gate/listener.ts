/** Listens for clients, within limits, and drains when it closes. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { equip } from '@holdfast/token-binding-tls'
import type { Config } from './config.ts'
import type { Gate } from './gate.ts'

/** What a listener does with requests. */
export type Handlers = Pick<Gate, 'handle' | 'handleUpgrade' | 'allEnded' | 'close'>

/** A gate that listens. Disposing it stops accepting, waits for open requests, and then closes. */
export interface Listening extends AsyncDisposable {
  readonly port: number
  /** Takes another certificate for connections that begin from now on. */
  setCertificate(pair: Readonly<{ cert: string; key: string }>): void
}

/** Requests of one connection that may be unanswered: browsers and proxies send one at a time. */
const mostUnanswered = 16

/**
 * Starts a listener.
 *
 * @param pair certificate and key, PEM; undefined for plain HTTP.
 */
export async function listen(
  gate: Handlers,
  { listen: { host, port }, tls, limits }: Pick<Config, 'listen' | 'tls' | 'limits'>,
  pair?: Readonly<{ cert: string; key: string }>,
): Promise<Listening> {
  const http = {
    maxHeaderSize: limits.headerBytes,
    headersTimeout: limits.headersMs,
    requestTimeout: limits.requestMs,
    connectionsCheckingInterval: Math.min(1000, limits.headersMs),
    insecureHTTPParser: false,
    requireHostHeader: true,
    shouldUpgradeCallback: isWebSocket,
  }
  const create = () =>
    createSecureServer({
      ...http,
      ...pair,
      ALPNProtocols: ['http/1.1'],
      requestCert: tls?.clientCertificates ?? false,
      rejectUnauthorized: false,
    })
  const tls13Draft = tls?.tokenBinding === 'tls13-draft'
  const server =
    pair === undefined
      ? createServer(http)
      : tls13Draft || tls?.tokenBinding === 'tls'
        ? equip(create, { tls13Draft })
        : create()
  server.maxConnections = limits.connections
  // All of them are read, and too many are refused: Node would drop those beyond its limit.
  server.maxHeadersCount = 0
  server.timeout = limits.requestMs
  const connections = attach(server, gate)
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.listen(port, host, resolve)
  await promise
  return {
    port: (server.address() as AddressInfo).port,
    setCertificate: (next) => 'setSecureContext' in server && server.setSecureContext(next),
    [Symbol.asyncDispose]: () => close(server, gate, { connections, drainMs: limits.drainMs }),
  }
}

/** Other upgrades are ignored, as RFC 9110 section 7.8 allows: the request is an ordinary one then. */
function isWebSocket({ method, headers }: IncomingMessage): boolean {
  return method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket'
}

/** The open connections of a listener, with the responses that each waits for. */
type Connections = ReadonlyMap<Socket, ReadonlySet<ServerResponse>>

/** Gives the gate its requests. */
function attach(server: Server, gate: Handlers): Connections {
  const connections = new Map<Socket, Set<ServerResponse>>()
  /** Whether one more request may wait on its connection. */
  const begin = ({ socket }: IncomingMessage, response: ServerResponse): boolean => {
    const unanswered = connections.get(socket)
    // After one too many, those that were read together with it still arrive.
    if (unanswered === undefined || unanswered.size >= mostUnanswered) {
      socket.destroy()
      return false
    }
    unanswered.add(response)
    response.once('close', () => unanswered.delete(response))
    if (!server.listening) response.shouldKeepAlive = false
    return true
  }
  const handle =
    (expectsContinue: boolean) => (request: IncomingMessage, response: ServerResponse) => {
      if (begin(request, response)) void gate.handle(request, response, expectsContinue)
    }
  server.on(isSecure(server) ? 'secureConnection' : 'connection', (socket: Socket) => {
    connections.set(socket, new Set())
    socket.once('close', () => connections.delete(socket))
  })
  server.on('request', handle(false)).on('checkContinue', handle(true))
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    void gate.handleUpgrade(request, socket, head)
  })
  // This is no forward proxy.
  server.on('connect', (_request: unknown, socket: Duplex) => {
    socket.on('error', () => {})
    socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n', () => socket.destroy())
  })
  return connections
}

const isSecure = (server: Server) => 'setSecureContext' in server

/** Requests that were begun get time to end; then everything is closed. */
async function close(
  server: Server,
  gate: Handlers,
  { connections, drainMs }: { connections: Connections; drainMs: number },
): Promise<void> {
  const { promise: closed, resolve } = Promise.withResolvers<void>()
  server.close(() => resolve())
  server.closeIdleConnections()
  for (const response of [...connections.values()].flatMap((each) => [...each])) {
    response.shouldKeepAlive = false
  }
  await withIn(drainMs, gate.allEnded())
  for (const socket of connections.keys()) socket.destroySoon()
  await withIn(1000, closed)
  for (const socket of connections.keys()) socket.destroy()
  await closed
  gate.close()
}

/** Waits for something, and no longer than so many milliseconds. */
async function withIn(milliseconds: number, awaited: Promise<void>): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, milliseconds)
  await Promise.race([awaited, late])
  clearTimeout(timer)
}
