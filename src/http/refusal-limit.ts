import type { Middleware } from 'koa'
import { networkOf } from '../net/network.ts'
import type { Limiter, MakeLimiter } from '../storage/limiter.ts'
import type { RouteName } from './routes.ts'

/** Routes whose requests carry credentials that could be guessed. */
export const guardedRoutes = [
  'token',
  'par',
  'introspect',
  'revoke',
  'device_authorization',
  'register',
  'registration_read',
  'registration_update',
  'registration_remove',
] as const satisfies readonly RouteName[]

/**
 * Slows down a network that has many requests refused. Only refusals are counted, and each node
 * remembers for itself who has used up the shared count: a client that makes no mistakes pays no
 * round trip for this.
 */
export function limitRefusals({
  make,
  onLimited,
  perMinute = 120,
  now = Date.now,
}: {
  make: MakeLimiter
  perMinute?: number
  onLimited: (ctx: Parameters<Middleware>[0]) => void
  now?: () => number
}): Middleware {
  const refusals: Limiter = make({ name: 'refusals', points: perMinute, duration: 60 })
  /** Milliseconds since the epoch, by network. */
  const blocked = new Map<string, number>()

  function remember(network: string, seconds: number) {
    for (const [other, until] of blocked) if (until <= now()) blocked.delete(other)
    blocked.set(network, now() + seconds * 1000)
  }

  return async (ctx, next) => {
    const network = networkOf(ctx.state.address)
    const left = (blocked.get(network) ?? 0) - now()
    if (left > 0) {
      onLimited(ctx)
      ctx.status = 429
      ctx.set({ 'retry-after': String(Math.ceil(left / 1000)), 'cache-control': 'no-store' })
      ctx.body = {
        error: 'temporarily_unavailable',
        error_description: 'too many requests from this network were refused',
      }
      return
    }
    await next()
    if (!isRefused(ctx.status, ctx.body)) return
    const seconds = await refusals.take(network)
    if (seconds !== undefined) remember(network, seconds)
  }
}

/**
 * Asking for a nonce (RFC 9449 section 8) is how every client begins, and being told to wait (RFC
 * 8628 section 3.5) is all that most requests of a device bring. One that asks too often is refused.
 */
const notRefusals: ReadonlySet<unknown> = new Set(['use_dpop_nonce', 'authorization_pending'])

function isRefused(status: number, body: unknown): boolean {
  const { error } = (body ?? {}) as { error?: unknown }
  return status >= 400 && status < 500 && !notRefusals.has(error)
}
