import type { Context } from 'koa'
import type { KoaContextWithOIDC } from 'oidc-provider'
import { matchedRoute } from './routing.ts'

const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/** The method of a request, out of a closed set. */
export function methodOf({ method }: Context): string {
  return methods.has(method) ? method : 'other'
}

/** Those that dashboards know by other names than their paths. */
const names: Readonly<Record<string, string>> = {
  token: 'token',
  introspect: 'introspection',
  revoke: 'revocation',
}

/** The name of what answered a request, out of a closed set: never its path. */
export function routeOf(ctx: Context & Partial<KoaContextWithOIDC>): string {
  const matched = matchedRoute(ctx)
  return ctx.oidc?.route ?? names[matched?.name ?? ''] ?? matched?.path ?? 'other'
}
