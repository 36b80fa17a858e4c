import { connect, type Socket } from 'node:net'

const request = 'GET /.well-known/openid-configuration HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'

/** Asks on a few connections, one request behind the other, and never reads an answer. */
export function createUnread(
  issuer: string,
  { localAddress, connections = 6 }: { localAddress: string; connections?: number },
) {
  const port = Number(new URL(issuer).port)
  const sockets: (Socket | undefined)[] = Array.from({ length: connections })
  let asked = 0
  let closed = 0

  function open(at: number): Socket {
    const socket = connect({ port, host: '127.0.0.1', localAddress })
    socket.pause()
    socket.on('error', () => {})
    socket.on('close', () => {
      closed += 1
      if (sockets[at] === socket) sockets[at] = undefined
    })
    return socket
  }

  return {
    ask(): void {
      const at = asked++ % sockets.length
      sockets[at] ??= open(at)
      sockets[at].write(request)
    },
    /** Connections that the server has ended. */
    closed: () => closed,
    end(): void {
      for (const socket of sockets.splice(0)) socket?.destroy()
    },
  }
}
