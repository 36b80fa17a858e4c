import type { Middleware } from 'koa'
import type { Edge } from '../http/edge.ts'

/** Endpoints that clients call themselves, where a certificate can be asked for (RFC 8705 section 5). */
const endpoints = {
  token_endpoint: '/token',
  pushed_authorization_request_endpoint: '/par',
  introspection_endpoint: '/introspect',
  revocation_endpoint: '/revoke',
  userinfo_endpoint: '/userinfo',
  device_authorization_endpoint: '/device_authorization',
}

/** The metadata that tells clients where to show a certificate. */
export function mtlsEndpointAliases(
  base: string,
  { deviceFlow }: { deviceFlow: boolean },
): Record<string, string> {
  const { device_authorization_endpoint, ...others } = endpoints
  const offered = deviceFlow ? endpoints : others
  const aliases = Object.entries(offered).map(([name, path]) => [name, base + path])
  return Object.fromEntries(aliases)
}

/** Pages for people, metadata and keys have one address each: the mTLS origin has none of them. */
export function serveAliasesOnly(edge: Pick<Edge, 'originOf'>, origin: string): Middleware {
  const paths = Object.values(endpoints)
  return async (ctx, next) => {
    if (edge.originOf(ctx.req).origin !== origin || paths.includes(ctx.path)) await next()
  }
}
