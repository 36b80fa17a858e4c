import type { Context, Middleware } from 'koa'
import { type AdminRouteName, adminRoutes, type RouteName } from './routes.ts'

/** Routes that programs call, and never a person with a browser. */
export const machineRoutes: readonly RouteName[] = [
  'token',
  'par',
  'introspect',
  'revoke',
  'backchannel_authentication',
  'device_authorization',
  'userinfo',
  'dbsc_registration',
  'dbsc_refresh',
  'register',
  'registration_read',
  'registration_update',
  'registration_remove',
  ...(Object.keys(adminRoutes) as AdminRouteName[]),
]

/** The one other thing that may be asked for there (RFC 9701). */
const signedIntrospection = /\bapplication\/token-introspection\+jwt\b/

/**
 * Errors of these routes are JSON, whatever a request accepts (RFC 6749 section 5.2, RFC 9126 section
 * 2.3, RFC 8628 section 3.2): the HTTP clients of some languages ask for HTML by default.
 */
export function answerInJson(): Middleware {
  return (ctx, next) => {
    const { accept = '' } = ctx.req.headers
    if (signedIntrospection.test(accept)) ctx.req.headers.accept = withoutPages(accept)
    else acceptJson(ctx)
    return next()
  }
}

const withoutPages = (accept: string) =>
  accept
    .split(',')
    .filter((range) => !/^\s*text\//i.test(range))
    .join(',')

/** Has errors of a request answered with JSON. */
export function acceptJson({ req }: Pick<Context, 'req'>): void {
  req.headers.accept = 'application/json'
}
