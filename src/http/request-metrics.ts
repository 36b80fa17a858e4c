import type { Context, Middleware } from 'koa'
import type { KoaContextWithOIDC } from 'oidc-provider'
import type { Metrics } from '../observability/metrics.ts'

const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/** Measures every request, by the route that answered it and never by its path. */
export function requestMetrics({ requests }: Pick<Metrics, 'requests'>): Middleware {
  return async (ctx, next) => {
    const end = requests.startTimer()
    await next()
    end({
      method: methods.has(ctx.method) ? ctx.method : 'other',
      route: routeOf(ctx),
      status: String(ctx.status),
    })
  }
}

function routeOf(ctx: Context & Partial<KoaContextWithOIDC> & { _matchedRoute?: unknown }): string {
  const matched = ctx._matchedRoute
  return ctx.oidc?.route ?? (typeof matched === 'string' ? matched : 'other')
}
