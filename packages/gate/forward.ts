/**
 * Sends a request on and its answer back, by Node's own HTTP client. Nothing is buffered here: each
 * side is read as fast as the other one takes it.
 */
import {
  type Agent,
  type ClientRequest,
  request as httpRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type ServerResponse,
} from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { Socket } from 'node:net'
import { type Duplex, pipeline } from 'node:stream'
import type { ApplicationConfig } from './config.ts'
import type { InboundRequest, InboundResponse } from './exchange.ts'
import { answeredFields, passingTrailers } from './headers.ts'
import { isComplete, isGone } from './http2.ts'
import { Refusal } from './refusal.ts'

/** Where requests of one application go. */
export type Upstream = Readonly<{
  url: URL
  agent: Agent
  timeouts: ApplicationConfig['timeouts']
}>

/** A body that was read, or that is still to come. */
export type Body =
  | Readonly<{ kind: 'none' }>
  | Readonly<{ kind: 'read'; bytes: Buffer }>
  /** `length` is undefined for a body in chunks; `begun` is what was read of it. */
  | Readonly<{ kind: 'stream'; begun: Buffer; length: number | undefined }>

/** A request as the application is to get it. */
export type Outgoing = Readonly<{
  method: string
  /** Path and query, as they were written. */
  target: string
  fields: readonly string[]
  body: Body
  /** Trailers that the configuration lets pass. */
  trailers: ReadonlySet<string>
  /** Fields to add to the answer. */
  answerFields: readonly string[]
}>

/** Holds a WebSocket or an event stream; `end` cuts it off. Returns how to say that it has ended. */
export type HoldStream = (end: () => void) => () => void

/** Content-Length, or chunks, or no body: never what the client wrote. */
function framingOf(method: string, body: Body): string[] {
  if (body.kind === 'read') return ['Content-Length', String(body.bytes.length)]
  if (body.kind === 'none')
    return /^(?:POST|PUT|PATCH)$/.test(method) ? ['Content-Length', '0'] : []
  if (body.length === undefined) return ['Transfer-Encoding', 'chunked']
  return ['Content-Length', String(body.length)]
}

function open({ url, agent, timeouts }: Upstream, outgoing: Outgoing, more: string[]) {
  const { method, target: path, fields, body } = outgoing
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest
  const sent = send({
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port || (url.protocol === 'https:' ? 443 : 80),
    agent,
    method,
    path,
    headers: [...fields, ...framingOf(method, body), ...more],
    timeout: timeouts.idleMs,
    setDefaultHeaders: false,
  })
  boundTimes(sent, timeouts)
  return sent
}

function boundTimes(sent: ClientRequest, { connectMs, responseMs }: Upstream['timeouts']): void {
  const late = () => sent.destroy(new Refusal('upstream_timeout'))
  sent.on('timeout', late)
  let timer: NodeJS.Timeout | undefined
  let answered = false
  const start = (milliseconds: number) => {
    clearTimeout(timer)
    // An answer may begin before the request has ended.
    if (!answered) timer = setTimeout(late, milliseconds)
  }
  sent.once('socket', (socket: Socket) => {
    if (!socket.connecting) return
    start(connectMs)
    socket.once('connect', () => clearTimeout(timer))
  })
  sent.once('finish', () => start(responseMs))
  for (const event of ['response', 'upgrade', 'close']) {
    sent.once(event, () => {
      answered = true
      clearTimeout(timer)
    })
  }
}

/** Sends what there is of a body, and its trailers. */
function sendBody(request: InboundRequest, sent: ClientRequest, outgoing: Outgoing): void {
  const { body, trailers } = outgoing
  if (body.kind === 'none') sent.end()
  else if (body.kind === 'read') sent.end(body.bytes)
  else {
    if (body.begun.length > 0) sent.write(body.begun)
    request.pipe(sent, { end: false })
    request.once('end', () => {
      if (body.length === undefined)
        sent.addTrailers(passingTrailers(request.rawTrailers, trailers))
      sent.end()
    })
  }
}

/** Passes an answer on; resolves when the client has it, or when one of the two is gone. */
async function answer(
  received: IncomingMessage,
  response: InboundResponse,
  { answerFields }: Outgoing,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const { statusCode = 502, statusMessage = '', rawHeaders } = received
  response.once('close', resolve)
  const connection = response.shouldKeepAlive ? [] : ['Connection', 'close']
  // What has come of the body by now is sent with the head, in one write.
  response.cork()
  response.writeHead(statusCode, statusMessage, [
    ...answeredFields(rawHeaders),
    ...answerFields,
    ...connection,
  ])
  response.flushHeaders()
  setImmediate(() => {
    if (!response.writableEnded) response.uncork()
  })
  received.pipe(response, { end: false })
  received.once('end', () => {
    const trailers = answeredFields(received.rawTrailers)
    if (trailers.length > 0) response.addTrailers(byName(trailers))
    response.end()
  })
  // Cut off: what has come must not look like the whole.
  received.on('error', () => response.destroy())
  await promise
}

function byName(fields: readonly string[]): OutgoingHttpHeaders {
  const found: Record<string, string[]> = {}
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const name = fields[at] as string
    found[name] = [...(found[name] ?? []), fields[at + 1] as string]
  }
  return found
}

/**
 * Forwards one request.
 *
 * @throws {@link Refusal} where no answer came, and where the client is gone already; once an answer has begun, it ends or is cut off.
 */
export async function forward(
  request: InboundRequest,
  response: InboundResponse,
  upstream: Upstream,
  outgoing: Outgoing,
  hold: HoldStream,
): Promise<void> {
  if (isGone(response)) throw new Refusal('client_gone')
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const sent = open(upstream, outgoing, [])
  // A client that is gone waits for nothing, and an upload that ends early must not look complete.
  response.once('close', () => {
    if (!response.writableEnded) sent.destroy()
    resolve()
  })
  sent.on('error', (cause) => {
    if (response.headersSent) response.destroy()
    else reject(asRefusal(cause))
  })
  sent.once('response', (received) => {
    if (isEventStream(received))
      response.once(
        'close',
        hold(() => response.destroy()),
      )
    // What was not read of the body stays unread, and the connection ends with it.
    if (!isComplete(request)) response.shouldKeepAlive = false
    // An upload that outlives its answer is cut off: its end must not look like the end of the body.
    received.once('end', () => {
      if (!isComplete(request)) sent.destroy()
    })
    answer(received, response, outgoing).then(resolve, (error) => {
      sent.destroy()
      reject(error)
    })
  })
  sendBody(request, sent, outgoing)
  await promise
}

const isEventStream = ({ headers }: IncomingMessage) =>
  /^text\/event-stream *(?:;|$)/i.test(headers['content-type'] ?? '')

/**
 * Forwards a request to upgrade to WebSocket. Where the application agrees, both connections become
 * one; any other answer of it is passed on.
 *
 * @throws {@link Refusal} where no answer came.
 */
export async function forwardUpgrade(
  client: Readonly<{ socket: Duplex; head: Buffer; response: ServerResponse }>,
  upstream: Upstream,
  outgoing: Outgoing,
  hold: HoldStream,
): Promise<void> {
  const { socket, head, response } = client
  if (socket.destroyed) throw new Refusal('client_gone')
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const sent = open(upstream, outgoing, ['Connection', 'Upgrade', 'Upgrade', 'websocket'])
  socket.once('close', () => sent.destroy())
  sent.on('error', (cause) => reject(asRefusal(cause)))
  sent.once('response', (received) => {
    response.shouldKeepAlive = false
    if (isEventStream(received))
      response.once(
        'close',
        hold(() => response.destroy()),
      )
    answer(received, response, outgoing).then(resolve, reject)
  })
  sent.once('upgrade', (received, peer: Socket, peerHead) => {
    const fields = [...answeredFields(received.rawHeaders), ...outgoing.answerFields]
    response.writeHead(101, 'Switching Protocols', [
      ...fields,
      ...['Connection', 'Upgrade', 'Upgrade', 'websocket'],
    ])
    response.flushHeaders()
    response.detachSocket(socket as Socket)
    peer.setTimeout(upstream.timeouts.idleMs, () => peer.destroy())
    if (peerHead.length > 0) socket.write(peerHead)
    if (head.length > 0) peer.write(head)
    const release = hold(() => socket.destroy())
    pipeline(socket, peer, socket, () => {
      release()
      socket.destroy()
      peer.destroy()
      resolve()
    })
  })
  sent.end()
  await promise
}

function asRefusal(cause: unknown): Refusal {
  return cause instanceof Refusal ? cause : new Refusal('upstream_unavailable', { cause })
}
