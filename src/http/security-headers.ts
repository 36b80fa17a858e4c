import type { Middleware } from 'koa'
import { isLoopback } from '../net/loopback.ts'
import { formAction } from './form-action.ts'

const contentSecurityPolicy = [
  "default-src 'none'",
  // Named although default-src covers it: oidc-provider adds the hash of the one script in its
  // self-submitting forms (response_mode=form_post, logout) to a script-src that is there.
  "script-src 'none'",
  "style-src 'self'",
  "img-src 'self'",
  `form-action ${formAction(undefined)}`,
  "frame-ancestors 'none'",
  "base-uri 'none'",
].join('; ')

/** Seconds for which a browser that was here once asks over https only: a year. */
const httpsOnly = 'max-age=31536000'

/** @param issuer - one of another machine over https is remembered as such by browsers. */
export function securityHeaders({ issuer }: { issuer: string }): Middleware {
  const url = new URL(issuer)
  // Browsers count a host with all its ports, and a loopback has many servers.
  const isRemembered = url.protocol === 'https:' && !isLoopback(url)
  const headers = new Map([
    ...(isRemembered ? [['strict-transport-security', httpsOnly] as const] : []),
    ['content-security-policy', contentSecurityPolicy],
    ['x-content-type-options', 'nosniff'],
    // Not no-referrer: with it browsers post our own forms with `Origin: null`.
    ['referrer-policy', 'same-origin'],
    // A window that opened this page cannot keep a handle to it and swap it for a copy.
    ['cross-origin-opener-policy', 'same-origin'],
  ])
  return async (ctx, next) => {
    // Not by koa, which makes several arrays of each.
    ctx.res.setHeaders(headers)
    await next()
    if (ctx.response.type === 'text/html' && !ctx.response.get('cache-control')) {
      ctx.set('cache-control', 'no-store')
    }
  }
}
