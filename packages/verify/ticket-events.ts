/** Streams of server-sent events that a ticket opens. */
import type { LeaseEnd, Leases } from './leases.ts'
import type { Verified } from './verifier.ts'

/** What is needed of a `ServerResponse`. */
export type EventResponse = {
  writeHead(status: number, headers: Record<string, string>): unknown
  write(text: string): boolean
  end(text?: string): unknown
  once(event: 'close', listener: () => void): unknown
}

/** A stream that is open. */
export type EventStream = Readonly<{
  /** False when the client does not read as fast as is sent: wait for `drain`, or leave some out. */
  send(data: unknown, event?: string): boolean
  close(): void
}>

/** Name of the last event of a stream that its lease has ended; its data is the reason. */
const endEvent = 'lease-ended'

/**
 * Begins a stream of events (`text/event-stream`) that ends with the token that opened it.
 *
 * An EventSource connects again by itself, with the same URL and so with a used ticket: that is
 * refused, and it gives up. The page has to get a new ticket and open a new one, best when it sees
 * the event `lease-ended`.
 *
 * @example
 * ```ts
 * app.get('/events', expressVerify(tickets), (request, response) => {
 *   const stream = beginEvents(response, request.auth, leases)
 *   feed.on('note', (note) => stream.send(note))
 * })
 * ```
 */
export function beginEvents(
  response: EventResponse,
  verified: Verified,
  leases: Leases,
): EventStream {
  response.writeHead(200, {
    ...verified.responseHeaders,
    'Content-Type': 'text/event-stream',
    'Cache-Control': 'no-store',
    // A proxy that waits for more sends nothing.
    'X-Accel-Buffering': 'no',
  })
  response.write(':\n\n')
  const finish = (reason: LeaseEnd) => response.end(`event: ${endEvent}\ndata: "${reason}"\n\n`)
  const lease = leases.hold(verified, finish)
  response.once('close', lease.release)
  return Object.freeze({
    send(data: unknown, event?: string): boolean {
      if (event !== undefined && !/^[\w-]+$/.test(event)) {
        throw new TypeError('event must be a name of letters, digits, "_" and "-"')
      }
      // As JSON, data has no line of its own.
      const name = event === undefined ? '' : `event: ${event}\n`
      return response.write(`${name}data: ${JSON.stringify(data)}\n\n`)
    },
    close() {
      lease.release()
      response.end()
    },
  })
}
