import { Server as HttpServer } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import { type AddressInfo, createServer, type ListenOptions, type Server } from 'node:net'

/**
 * Sockets that listen at one port. Node accepts one connection of each in a turn of its event loop
 * (libuv/libuv#3696). A turn takes long in a node that is busy with the connections it has: with one
 * socket, those that come together wait in the kernel for seconds, health checks among them.
 */
export const listeningSockets = 32

interface Address {
  readonly host: string
  readonly port: number
}

/**
 * Listens at an address with many sockets (SO_REUSEPORT), where the system can share a port among
 * them, and with one elsewhere.
 *
 * @returns the servers beside `server` that hand their connections over to it.
 */
export async function listenAt(
  server: HttpServer | HttpsServer,
  { host, port }: Address,
): Promise<Server[]> {
  // Another process of the same user could share the port as well: that is a mistake, and is found.
  if (port !== 0) await closeServer(await started(createServer(), { host, port }))
  const shares = await started(server, { host, port, reusePort: true }).then(
    () => true,
    () => false,
  )
  if (!shares) {
    await started(server, { host, port })
    return []
  }
  const { address, port: shared } = server.address() as AddressInfo
  // As Node makes the connections of such a server itself.
  const allowHalfOpen = server instanceof HttpServer
  const acceptors = Array.from({ length: listeningSockets - 1 }, () =>
    createServer({ allowHalfOpen, noDelay: true }, (socket) => server.emit('connection', socket)),
  )
  try {
    const options = { host: address, port: shared, reusePort: true }
    return await Promise.all(acceptors.map((acceptor) => started(acceptor, options)))
  } catch (error) {
    // Half of them would keep the port, and the process.
    for (const each of [server, ...acceptors]) each.close()
    throw error
  }
}

/** Ends when a server listens, with the error if it cannot. */
function started<S extends Server>(server: S, options: ListenOptions): Promise<S> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(options, () => {
      // A connection that cannot be accepted ends, and the server continues.
      server.off('error', reject).on('error', () => {})
      resolve(server)
    })
  })
}

/** Ends when a server has closed, and all its connections with it. */
export function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
  })
}
