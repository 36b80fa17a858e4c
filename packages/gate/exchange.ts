/** What the gate needs of a request and of its response, in HTTP/1.1 and in HTTP/2. */
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'
import type { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'

/** A request that was received; Node's `IncomingMessage` is one. */
export interface InboundRequest extends Readable {
  readonly method?: string | undefined
  readonly url?: string | undefined
  readonly httpVersionMajor: number
  readonly headers: IncomingHttpHeaders
  readonly rawHeaders: string[]
  readonly rawTrailers: string[]
  /** Whether nothing more will come. */
  readonly complete: boolean
  readonly socket: Socket
}

/** The response to it; Node's `ServerResponse` is one. */
export interface InboundResponse extends Writable {
  statusCode: number
  readonly headersSent: boolean
  /** Whether the connection stays open for other requests; HTTP/2 has no such thing for one of them. */
  shouldKeepAlive: boolean
  setHeader(name: string, value: number | string | readonly string[]): unknown
  writeHead(status: number, fields: string[] | Record<string, string>): this
  writeHead(status: number, message: string, fields: string[]): this
  flushHeaders(): void
  writeContinue(): unknown
  addTrailers(trailers: OutgoingHttpHeaders): void
}
