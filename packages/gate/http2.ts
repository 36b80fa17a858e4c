/**
 * HTTP/2 to clients, by Node's own. A request of it becomes what the same request would be in
 * HTTP/1.1, and everything behind this file knows one form.
 */
import {
  constants,
  Http2ServerRequest,
  Http2ServerResponse,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions,
} from 'node:http2'
import type { Socket } from 'node:net'
import type { Config } from './config.ts'
import { type Asked, mostFields } from './edge.ts'
import type { InboundRequest, InboundResponse } from './exchange.ts'
import { valuesOf } from './headers.ts'
import { Refusal } from './refusal.ts'

/** How long a client may send on after the whole answer to its request. */
const lingeringMs = 1000

/** A response by HTTP/2, with what the gate calls of one by HTTP/1.1. */
export class Http2Response<
  Request extends Http2ServerRequest = Http2ServerRequest,
> extends Http2ServerResponse<Request> {
  /** Of the connection, which no single request ends. */
  get shouldKeepAlive(): boolean {
    return true
  }
  set shouldKeepAlive(_ignored: boolean) {}

  /** Fields are a list, as `rawHeaders`, or an object. HTTP/2 has no reason phrases. */
  override writeHead(status: number, ...rest: unknown[]): this {
    return super.writeHead(status, rest.at(-1) as Record<string, string>)
  }

  override end(...args: unknown[]): this {
    const { stream } = this
    if (!isWhole(stream)) {
      // RFC 9113 section 8.1: a client need not send what nobody reads, once it has the answer.
      const timer = setInterval(() => {
        if (stream.state.localClose === 1) stream.close(constants.NGHTTP2_NO_ERROR)
      }, lingeringMs).unref()
      stream.once('close', () => clearInterval(timer))
    }
    return super.end(...(args as [string]))
  }

  /** Cuts the response off: without an error, the client could take it for the whole. */
  override destroy(error = new Error('the response was cut off')): this {
    return super.destroy(error)
  }
}

/** Whether the client has sent the end of a request, read or not. */
function isWhole(stream: ServerHttp2Stream): boolean {
  return stream.endAfterHeaders || stream.state.remoteClose === 1
}

/** Whether nobody waits for a response any more: then no event will tell of it. */
export function isGone(response: InboundResponse): boolean {
  return response instanceof Http2ServerResponse ? response.stream.closed : response.destroyed
}

/** Whether nothing more will come of a request; in HTTP/2, `complete` waits for a reader. */
export function isComplete(request: InboundRequest): boolean {
  return request instanceof Http2ServerRequest ? isWhole(request.stream) : request.complete
}

/** How a listener speaks it: what Node bounds is bounded here, and the rest by {@link Http2Sessions}. */
export function http2Options(limits: Config['limits']): ServerOptions {
  return {
    Http2ServerResponse: Http2Response,
    settings: {
      maxConcurrentStreams: limits.streams,
      maxHeaderListSize: limits.headerBytes,
      enablePush: false,
      // WebSocket stays with HTTP/1.1.
      enableConnectProtocol: false,
    },
    // Cookies may come in one field each (RFC 9113 section 8.2.3).
    maxHeaderListPairs: 2 * mostFields,
    // Streams that a client may reset at once, and a second after that (CVE-2023-44487).
    streamResetBurst: 200,
    streamResetRate: 20,
    maxSessionInvalidFrames: 100,
    maxSessionRejectedStreams: 100,
    // Of an application: Node would throw where a field that it knows as single is there twice.
    strictSingleValueFields: false,
  }
}

/**
 * What the same request would be in HTTP/1.1 (RFC 9113 sections 8.2.3 and 8.3.1).
 *
 * @throws {@link Refusal} `target`, where it is not for https
 */
export function http2Asked(request: Http2ServerRequest): Asked {
  const { rawHeaders, stream } = request
  const [scheme] = valuesOf(rawHeaders, ':scheme')
  if (scheme !== 'https') throw new Refusal('target')
  const cookies = valuesOf(rawHeaders, 'cookie')
  const fields = rawHeaders.flatMap((value, at) => {
    const name = at % 2 === 0 ? value : ''
    const isOwn = name === '' || name.startsWith(':') || name === 'cookie'
    return isOwn ? [] : [name, rawHeaders[at + 1] as string]
  })
  if (cookies.length > 0) fields.push('cookie', cookies.join('; '))
  const isUnmeasured = !stream.endAfterHeaders && valuesOf(fields, 'content-length').length === 0
  if (isUnmeasured) fields.push('transfer-encoding', 'chunked')
  const authorities = valuesOf(rawHeaders, ':authority')
  return {
    method: request.method,
    url: request.url,
    // Both may be there, and then they must be the same: that is one.
    hosts: [...new Set([...authorities, ...valuesOf(rawHeaders, 'host')])],
    fields,
    socket: sockets.get(stream.session as ServerHttp2Session) ?? request.socket,
    protocol: '2',
  }
}

// HTTP/2 gives requests a proxy of the socket, another one each. What is known of a connection is
// known of the socket itself.
const sockets = new WeakMap<ServerHttp2Session, Socket>()

type Known = { requests: Map<ServerHttp2Stream, number>; idleSinceMs: number; isNew: boolean }

/** A connection without a request is closed after so many milliseconds. */
const idleMs = 60_000

/** The HTTP/2 connections of a listener. */
export class Http2Sessions {
  readonly #limits: Config['limits']
  readonly #sessions = new Map<ServerHttp2Session, Known>()

  constructor(limits: Config['limits']) {
    this.#limits = limits
  }

  /** Takes a connection that has begun. */
  add(session: ServerHttp2Session, nowMs = performance.now()): void {
    session.once('connect', (_session, socket) => sockets.set(session, socket))
    const known: Known = { requests: new Map(), idleSinceMs: nowMs, isNew: true }
    this.#sessions.set(session, known)
    session.once('close', () => this.#sessions.delete(session))
    session.on('stream', (stream: ServerHttp2Stream) => {
      known.isNew = false
      known.requests.set(stream, performance.now())
      stream.once('close', () => {
        known.requests.delete(stream)
        known.idleSinceMs = performance.now()
      })
    })
  }

  /** Ends requests that take too long to come, and connections on which none is open. */
  sweep(nowMs = performance.now()): void {
    const { requestMs, headersMs } = this.#limits
    for (const [session, { requests, idleSinceMs, isNew }] of this.#sessions) {
      const patienceMs = isNew ? headersMs : idleMs
      if (requests.size === 0 && nowMs - idleSinceMs > patienceMs) {
        // Before the first request there is nobody to be polite to.
        if (isNew || session.closed) session.destroy()
        else session.close()
      }
      for (const [stream, beganMs] of requests) {
        if (!isWhole(stream) && nowMs - beganMs > requestMs) stream.close(constants.NGHTTP2_CANCEL)
      }
    }
  }

  /**
   * Asks clients to open no more streams (RFC 9113 section 6.8): those that are under way are still
   * answered. Resolves when each has seen it.
   */
  async announceClose(): Promise<void> {
    const open = [...this.#sessions.keys()].filter(({ closed, destroyed }) => !closed && !destroyed)
    const seen = open.map((session) => {
      const { promise, resolve } = Promise.withResolvers<void>()
      session.goaway(constants.NGHTTP2_NO_ERROR, 2 ** 31 - 1)
      session.once('close', resolve)
      session.ping(() => resolve())
      return promise
    })
    await Promise.all(seen)
  }
  /** Takes no more streams, says which was the last one, and closes each connection after it. */
  close(): void {
    for (const session of this.#sessions.keys()) session.close()
  }
}
