import type { Middleware } from 'koa'
import { networkOf } from '../net/network.ts'
import type { MakeLimiter } from '../storage/limiter.ts'

/**
 * Limits how many device codes one network asks for. Anybody may who knows the client_id of a public
 * client, each is kept for a while, and the more there are the sooner a user code is guessed.
 */
export function limitDeviceCodes({
  make,
  perMinute = 60,
  onLimited,
}: {
  make: MakeLimiter
  perMinute?: number
  onLimited: (ctx: Parameters<Middleware>[0]) => void
}): Middleware {
  const asked = make({ name: 'device-codes', points: perMinute, duration: 60 })
  return async (ctx, next) => {
    const seconds = await asked.take(networkOf(ctx.state.address))
    if (seconds === undefined) return next()
    onLimited(ctx)
    ctx.status = 429
    ctx.set({ 'retry-after': String(seconds), 'cache-control': 'no-store' })
    ctx.body = {
      error: 'temporarily_unavailable',
      error_description: 'too many device codes were asked for from this network',
    }
  }
}
