import type { IncomingMessage } from 'node:http'
import type { Middleware } from 'koa'
import { canonicalAddress } from '../net/address.ts'
import type { PeerTest } from '../net/trusted-peers.ts'

interface Peer {
  readonly remoteAddress?: string | undefined
}

/**
 * Notes the address of the client in `ctx.state.address`: of the TCP peer, or, when that is a
 * trusted proxy, the last address of `X-Forwarded-For` that is not one of them. What stands before
 * it there was written by the client, and says whatever the client wants.
 *
 * @param onFirstUntrusted told of the first peer that is not trusted and sends such a header: a
 * proxy that was forgotten in the configuration, or a client.
 */
export function noteClientAddress(
  isTrusted: PeerTest,
  { onFirstUntrusted = () => {} }: { onFirstUntrusted?: (peer: string) => void } = {},
): Middleware {
  let isReported = false
  return (ctx, next) => {
    ctx.state.address = clientAddress(ctx.req, isTrusted)
    if (!isReported && isForwarded(ctx.req) && !isTrusted(ctx.req.socket.remoteAddress)) {
      // Once: anyone can send such a header.
      isReported = true
      onFirstUntrusted(ctx.state.address)
    }
    return next()
  }
}

/** Whether a request says that a proxy has passed it on. */
export function isForwarded({ headers }: Pick<IncomingMessage, 'headers'>): boolean {
  return headers['x-forwarded-for'] !== undefined || headers.forwarded !== undefined
}

export function clientAddress(
  { socket, headers }: Pick<IncomingMessage, 'headers'> & { socket: Peer },
  isTrusted: PeerTest,
): string {
  const forwarded = isTrusted(socket.remoteAddress) ? headers['x-forwarded-for'] : undefined
  const peer = asAddress(socket.remoteAddress ?? '')
  if (forwarded === undefined) return peer
  const hops = [forwarded].flat().join(',').split(',')
  // From the end: a client may write thousands of addresses before those of the proxies.
  for (let hop = hops.pop(); hop !== undefined; hop = hops.pop()) {
    const address = asAddress(hop)
    // Of something that is no address the nearest proxy has to answer for it.
    if (!isTrusted(address)) return address || peer
  }
  return peer
}

/** Empty for what is no address. */
function asAddress(text: string): string {
  return canonicalAddress(text) ?? ''
}
