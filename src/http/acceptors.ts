import { Server as HttpServer } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import { type AddressInfo, createServer, type ListenOptions, type Server } from 'node:net'
import type { Config } from '../config/config.ts'
import { ListenError } from '../net/listen-error.ts'

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
 * @param isShared whether other processes of this node listen at the address as well: the process that
 * started them has looked whether it is free.
 * @returns the servers beside `server` that hand their connections over to it.
 */
export async function listenAt(
  server: HttpServer | HttpsServer,
  { host, port }: Address,
  { isShared = false }: { isShared?: boolean } = {},
): Promise<Server[]> {
  if (port !== 0 && !isShared) await tryAddress({ host, port })
  const shares = await started(server, { host, port, reusePort: true }).then(
    () => true,
    () => false,
  )
  if (!shares) {
    // Where processes share a port, this says why one of them cannot.
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

/**
 * Whether an address is free. Another process of the same user could share its port by mistake: that
 * is found only by a socket that shares it with nobody.
 */
async function tryAddress({ host, port }: Address): Promise<void> {
  await closeServer(await started(createServer(), { host, port }))
}

/**
 * Whether the ports of a node are free, before several processes share them.
 *
 * @throws {@link ListenError}
 */
export async function requireFreePorts({
  listen: { host, port },
  mtls,
}: Pick<Config, 'listen' | 'mtls'>): Promise<void> {
  for (const each of mtls.port ? [port, mtls.port] : [port]) {
    await tryAddress({ host, port: each }).catch((cause) => {
      throw asListenError(cause, host, each)
    })
  }
}

/** What an operator can change about an address that cannot be used. */
export function asListenError(
  cause: NodeJS.ErrnoException,
  host: string,
  port: number,
): ListenError {
  return cause.code === 'EADDRINUSE'
    ? new ListenError(
        'address_in_use',
        `Port ${port} on ${host} is in use. Stop what uses it, or set HOLDFAST_PORT.`,
        { cause },
      )
    : new ListenError(
        'address_unusable',
        `Cannot listen on port ${port} of ${host} (${cause.code}). Check HOLDFAST_HOST and HOLDFAST_PORT.`,
        { cause },
      )
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
