import type { Middleware } from 'koa'
import type { Metrics } from '../observability/metrics.ts'
import { methodOf, routeOf } from './request-route.ts'

/** Measures every request, by the route that answered it and never by its path. */
export function requestMetrics({ requests }: Pick<Metrics, 'requests'>): Middleware {
  return async (ctx, next) => {
    const end = requests.startTimer()
    await next()
    end({ method: methodOf(ctx), route: routeOf(ctx), status: String(ctx.status) })
  }
}
