import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import type { Middleware } from 'koa'
import type { PeerTest } from './trusted-peers.ts'

interface Peer {
  readonly remoteAddress?: string | undefined
}

/**
 * Notes the address of the client in `ctx.state.address`: of the TCP peer, or, when that is a
 * trusted proxy, the last address of `X-Forwarded-For` that is not one of them. What stands before
 * it there was written by the client, and says whatever the client wants.
 */
export function noteClientAddress(isTrusted: PeerTest): Middleware {
  return (ctx, next) => {
    ctx.state.address = clientAddress(ctx.req, isTrusted)
    return next()
  }
}

export function clientAddress(
  { socket, headers }: Pick<IncomingMessage, 'headers'> & { socket: Peer },
  isTrusted: PeerTest,
): string {
  const forwarded = isTrusted(socket.remoteAddress) ? headers['x-forwarded-for'] : undefined
  const hops = [forwarded ?? []].flat().join(',').split(',')
  const path = [...hops.map((hop) => hop.trim()), socket.remoteAddress ?? '']
  const address = path.findLast((hop) => !isTrusted(hop))
  // Only proxies, or something that is no address: then the nearest one has to answer for it.
  return plain(address && isIP(address) ? address : (socket.remoteAddress ?? ''))
}

/** One spelling for an IPv4 address, whichever way the system writes it. */
function plain(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '')
}
