import type { Middleware } from 'koa'
import type { ClientLogoTable } from '../storage/client-logo-table.ts'
import { matchedRoute } from './routing.ts'

/** Serves logos of clients. The address of one changes with it, so it may be kept forever. */
export function clientLogos(table: Pick<ClientLogoTable, 'find'>): Middleware {
  return async (ctx) => {
    const logo = await table.find(matchedRoute(ctx)?.params.logo ?? '')
    if (!logo) return
    ctx.set('cache-control', 'public, max-age=31536000, immutable')
    ctx.type = logo.type
    ctx.body = Buffer.from(logo.bytes)
  }
}
