import type { Middleware } from 'koa'
import type { Edge } from '../http/edge.ts'
import { publicRoutes, type RouteName } from '../http/routes.ts'
import { matchedRoute } from '../http/routing.ts'

/** Endpoints that clients call themselves, where a certificate can be asked for (RFC 8705 section 5). */
const endpoints = {
  token_endpoint: 'token',
  pushed_authorization_request_endpoint: 'par',
  introspection_endpoint: 'introspect',
  revocation_endpoint: 'revoke',
  userinfo_endpoint: 'userinfo',
  backchannel_authentication_endpoint: 'backchannel_authentication',
  device_authorization_endpoint: 'device_authorization',
} as const satisfies Record<string, keyof typeof publicRoutes>

/** The metadata that tells clients where to show a certificate. */
export function mtlsEndpointAliases(
  base: string,
  { deviceFlow }: { deviceFlow: boolean },
): Record<string, string> {
  const { device_authorization_endpoint, ...others } = endpoints
  const offered = deviceFlow ? endpoints : others
  const aliases = Object.entries(offered).map(([name, route]) => [
    name,
    base + publicRoutes[route].path,
  ])
  return Object.fromEntries(aliases)
}

/** Pages for people, metadata and keys have one address each: the mTLS origin has none of them. */
export function serveAliasesOnly(edge: Pick<Edge, 'originOf'>, origin: string): Middleware {
  const aliases: ReadonlySet<RouteName | undefined> = new Set(Object.values(endpoints))
  return async (ctx, next) => {
    const isAlias = aliases.has(matchedRoute(ctx)?.name)
    if (edge.originOf(ctx.req).origin !== origin || isAlias) await next()
  }
}
