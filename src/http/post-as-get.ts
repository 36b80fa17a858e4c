import type { Middleware } from 'koa'
import { readForm } from './form-body.ts'

/**
 * Lets relying parties send a browser to a route by POST as well (OpenID Connect Core section
 * 3.1.2.1, RP-Initiated Logout section 2), by sending it on to the same request by GET. The engine
 * would answer the POST itself only with session cookies of SameSite=None, which every other site
 * could then send along.
 *
 * @param base the public path of this server.
 */
export function postAsGet({ base }: { base: string }): Middleware {
  return async (ctx, next) => {
    if (ctx.method !== 'POST') return next()
    const query = new URLSearchParams([...(await readForm(ctx))])
    ctx.status = 303
    ctx.redirect(`${base}${ctx.path}?${query}`)
  }
}
