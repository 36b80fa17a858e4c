import type { Middleware } from 'koa'

/** Seconds after which a client may try again: about what a failover of PostgreSQL takes. */
const seconds = 5

/** Says in each 503, by whichever part of the server, when to retry (RFC 9110 section 10.2.3). */
export function retryAfter(): Middleware {
  return async (ctx, next) => {
    await next()
    if (ctx.status === 503) ctx.set('retry-after', String(seconds))
  }
}
