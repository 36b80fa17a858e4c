import type { Middleware } from 'koa'
import { PageError } from '../pages/page-error.ts'

/**
 * Refuses a form posted by another site. A browser says where a request comes from in
 * Sec-Fetch-Site, an older one in Origin. A client that sends neither is no browser with a victim
 * in it, and still has to know the form's token.
 */
export function sameOrigin({ publicOrigin }: { publicOrigin: string }): Middleware {
  return (ctx, next) => {
    if (!comesFrom(publicOrigin, ctx.get('sec-fetch-site'), ctx.get('origin'))) {
      throw new PageError('cross_site_request', 'Expected a form of our own origin')
    }
    return next()
  }
}

function comesFrom(publicOrigin: string, site: string, origin: string): boolean {
  if (site) return site === 'same-origin' || site === 'none'
  return !origin || origin === publicOrigin
}
