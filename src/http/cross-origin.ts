import type { Context } from 'koa'
import { allRoutes } from './routes.ts'
import { matchedRoute } from './routing.ts'

/**
 * Lets scripts of every origin read a refusal that comes before the endpoint, at routes that they
 * may call. It says nothing of a client, and without this a script sees a network error in place of
 * the time to wait. An endpoint that has answered has decided for itself who may read that.
 */
export function letScriptsRead(ctx: Context): void {
  const route = matchedRoute(ctx)
  if (!route || !allRoutes[route.name].cors || !ctx.get('origin')) return
  ctx.vary('Origin')
  ctx.set({ 'access-control-allow-origin': '*', 'access-control-expose-headers': 'Retry-After' })
}
