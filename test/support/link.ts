import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A TCP connection between two programs of loopback, which a network fault can strike. */
export interface Link extends AsyncDisposable {
  /** Its address, host and port: what connects there reaches `port`. */
  readonly address: string
  /** Lets no byte pass in either direction. As behind a broken switch, nobody hears of it. */
  silence(): void
  /** Lets new connections pass. Existing ones stay broken: both ends have given them up. */
  restore(): void
}

/** Opens a link to a port of loopback. */
export async function openLink(port: number): Promise<Link> {
  const sockets = new Set<Socket>()
  let silent = false
  const server = createServer((client) => {
    const target = connect(port, '127.0.0.1')
    for (const [socket, other] of [
      [client, target],
      [target, client],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => {})
      // A close passes no broken switch either.
      socket.on('close', () => {
        sockets.delete(socket)
        if (!silent) other.destroy()
      })
      socket.on('data', (bytes) => {
        if (!silent) other.write(bytes)
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const breakAll = () => {
    for (const socket of sockets) socket.destroy()
  }
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    silence() {
      silent = true
    },
    restore() {
      silent = false
      breakAll()
    },
    async [Symbol.asyncDispose]() {
      server.close()
      silent = false
      breakAll()
    },
  }
}
