/** WebSockets that a ticket opens, with `ws`. */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { type Answer, admit, admitFurther, checkAdapter } from './answer.ts'
import type { Leases } from './leases.ts'
import { type AdapterOptions, nodeRequest } from './node.ts'
import { checkRequirements, type Requirements } from './requirements.ts'
import type { Tickets } from './ticket.ts'
import type { Verified } from './verifier.ts'

/** What is needed of a WebSocket of `ws`. */
export type ClosableSocket = {
  close(code: number, reason: string): unknown
  once(event: 'close', listener: () => void): unknown
}

/** What is needed of `new WebSocketServer({ noServer: true })`. */
export type UpgradeServer<Socket extends ClosableSocket> = {
  handleUpgrade(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    callback: (client: Socket) => void,
  ): unknown
  emit(event: 'connection', client: Socket, request: IncomingMessage, auth: Verified): unknown
}

/** Options of {@link upgradeWithTicket}. */
export type TicketUpgradeOptions = AdapterOptions<IncomingMessage> &
  Readonly<{
    /** Ends each socket with what opened it (close code 1008). Default: nothing ends one. */
    leases?: Leases
    requirements?: Requirements
  }>

/**
 * Makes a listener for `upgrade` that lets only requests with a ticket become WebSockets. The server
 * emits `connection` with the socket, the request, and what was verified.
 *
 * It does NOT look at `Origin`: a ticket is not sent by a browser on its own, as a cookie is.
 *
 * @example
 * ```ts
 * const sockets = new WebSocketServer({ noServer: true })
 * server.on('upgrade', upgradeWithTicket(tickets, sockets, { leases }))
 * sockets.on('connection', (socket, request, auth) => socket.send(`hello ${auth.claims.sub}`))
 * ```
 */
export function upgradeWithTicket<Socket extends ClosableSocket>(
  tickets: Tickets,
  server: UpgradeServer<Socket>,
  { leases, requirements = {}, ...options }: TicketUpgradeOptions = {},
) {
  checkAdapter(tickets, options)
  checkRequirements(requirements)

  async function upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const admission = await admit(tickets, nodeRequest(request), () => options.facts?.(request))
    const further = admission.answer
      ? admission
      : await admitFurther(tickets, admission.auth, requirements)
    if (further.answer !== undefined) return refuse(socket, further.answer)
    const auth = further.auth as Verified
    server.handleUpgrade(request, socket, head, (client) => {
      const lease = leases?.hold(auth, (reason) => client.close(1008, reason))
      if (lease !== undefined) client.once('close', lease.release)
      server.emit('connection', client, request, auth)
    })
  }

  return (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    // A client that goes away meanwhile is no error of this process.
    const ignore = () => {}
    socket.on('error', ignore)
    upgrade(request, socket, head)
      .catch(() => socket.destroy())
      .finally(() => socket.off('error', ignore))
  }
}

function refuse(socket: Duplex, { status, headers, body }: Answer): void {
  const fields = {
    ...headers,
    Connection: 'close',
    'Content-Length': String(Buffer.byteLength(body)),
  }
  const lines = Object.entries(fields).flatMap(([name, value]) =>
    [value].flat().map((each) => `${name}: ${each}\r\n`),
  )
  socket.end(`HTTP/1.1 ${status} Refused\r\n${lines.join('')}\r\n${body}`)
}
