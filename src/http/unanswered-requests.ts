import { EventEmitter, once } from 'node:events'
import type { RequestListener, Server, ServerResponse } from 'node:http'
import type { Server as NetServer, Socket } from 'node:net'

/**
 * Requests of one connection that may be unanswered. Browsers and proxies send one at a time. Node
 * would read on for as long as nothing was written, and keep an answer for each.
 */
export const mostUnanswered = 16

/** Milliseconds that a listener gives to clients. */
const bounds = {
  /** For all headers of a request. */
  headersTimeout: 20_000,
  /** For a whole request. */
  requestTimeout: 60_000,
  /** For a connection on which nothing moves, such as one whose client reads no answer. */
  timeout: 60_000,
}

/** Of a listener. */
const mostConnections = 10_000

export interface UnansweredRequests {
  /** Serves a request, or closes its connection where too many are unanswered on it. */
  readonly listener: RequestListener
  /** Resolves when every request is answered, or its connection closed. */
  allAnswered(): Promise<void>
}

/** Bounds what the clients of a server can leave unanswered, and says when nothing is. */
export function boundUnanswered(handler: RequestListener): UnansweredRequests {
  const connections = new Map<Socket, Set<ServerResponse>>()
  const progress = new EventEmitter()

  /** The responses that a connection waits for. Those that wait on a closed one Node never closes. */
  function unansweredOn(socket: Socket): Set<ServerResponse> {
    const known = connections.get(socket)
    if (known) return known
    const unanswered = new Set<ServerResponse>()
    connections.set(socket, unanswered)
    socket.once('close', () => {
      connections.delete(socket)
      progress.emit('answered')
    })
    return unanswered
  }

  const isAnswered = () => [...connections.values()].every(({ size }) => size === 0)

  return {
    listener(request, response) {
      const { socket } = request
      // After one too many, those that were read together with it still arrive.
      if (socket.destroyed) return
      const unanswered = unansweredOn(socket)
      if (unanswered.size === mostUnanswered) {
        socket.destroy()
        return
      }
      unanswered.add(response)
      // A response is closed when its client has taken all of it but what the socket holds.
      response.once('close', () => {
        unanswered.delete(response)
        progress.emit('answered')
      })
      handler(request, response)
    },
    async allAnswered() {
      while (!isAnswered()) await once(progress, 'answered')
    },
  }
}

/**
 * Bounds how long clients may take, and how many connections they may have.
 *
 * @param acceptors that share the port of the server: the system spreads connections evenly.
 */
export function boundConnections(server: Server, acceptors: readonly NetServer[] = []): void {
  Object.assign(server, bounds)
  const sockets = [server, ...acceptors]
  for (const each of sockets) each.maxConnections = Math.ceil(mostConnections / sockets.length)
}
