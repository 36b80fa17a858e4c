import type Router from '@koa/router'
import type { Middleware } from 'koa'

/** A router adds to the context what its own handlers need. */
export function routesOf(router: Router): Middleware {
  const routes = router.routes()
  return (ctx, next) => routes(ctx as Parameters<typeof routes>[0], next)
}

/** One middleware of several routers. */
export function inTurn(routers: readonly Router[]): Middleware {
  return routers.map(routesOf).reduceRight<Middleware>(
    (rest, first) => (ctx, next) => first(ctx, () => rest(ctx, next) as Promise<unknown>),
    (_ctx, next) => next(),
  )
}
