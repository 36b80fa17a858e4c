import type { DbscSessions } from '@holdfast/verify/dbsc'
import { koaDbsc } from '@holdfast/verify/dbsc/koa'
import type { Context, Middleware } from 'koa'
import type { KoaContextWithOIDC, Provider } from 'oidc-provider'
import { pathOfIssuer } from '../config/issuer-path.ts'
import { browserSessionOf, isUnproven, namedSession, seenSession } from '../engine/session-model.ts'
import { clientInfo, withClientInfo } from '../http/client-info.ts'
import type { SecurityEvents } from '../observability/security-events.ts'

export interface DbscMiddlewareOptions {
  readonly provider: Provider
  readonly dbsc: DbscSessions
  readonly events: SecurityEvents
  /** A page that opens itself again, from this site. */
  readonly interstitial: () => string
}

/** Device Bound Session Credentials around the engine: endpoints, offers, the interstitial, and the end. */
export function dbscMiddleware({
  provider,
  dbsc,
  events,
  interstitial,
}: DbscMiddlewareOptions): Middleware {
  const endpoints = koaDbsc(
    dbsc,
    async (ctx: Context) => (await namedSession(provider, ctx))?.session.uid,
  )

  return (ctx, next) =>
    withClientInfo(ctx, () =>
      endpoints(ctx, async () => {
        if (comesFromElsewhere(ctx)) {
          const found = await namedSession(provider, ctx)
          if (found && isUnproven(found)) {
            ctx.type = 'html'
            ctx.body = interstitial()
            return
          }
        }
        await next()
        offerOnce(ctx, dbsc)
        forgetAtLogout(ctx, dbsc)
        const found = seenSession(ctx)
        if (found && isUnproven(found)) {
          const { accountId, uid: sessionUid } = found.session
          await events.record('session_unproven', { accountId, sessionUid, ...clientInfo(ctx) })
        }
      }),
    )
}

/**
 * Whether another site has led the browser here. Browsers do not refresh for the requests of others,
 * and follow redirects in their name: only a page of our own can make them. From it, the same
 * request comes as our own, so that there is one interstitial and never two. A browser that does not say
 * where a request comes from binds no sessions either.
 */
function comesFromElsewhere(ctx: Context): boolean {
  return (
    ctx.method === 'GET' &&
    ctx.get('sec-fetch-dest') === 'document' &&
    ['cross-site', 'same-site'].includes(ctx.get('sec-fetch-site'))
  )
}

/** Offers registration with the response to a sign-in, to the browser that has just done it. */
function offerOnce(ctx: Context & Partial<KoaContextWithOIDC>, dbsc: DbscSessions): void {
  const { oidc } = ctx
  // Browsers bind nothing over plain http.
  if (!oidc?.issuer.startsWith('https:')) return
  if (!/^(device_)?resume$/.test(oidc.route) || !oidc.result?.login || !oidc.session?.accountId)
    return
  // The first key stays, even against someone who knows the password.
  if (browserSessionOf(oidc.session)?.binding) return
  ctx.set('Secure-Session-Registration', dbsc.offer(oidc.session.uid))
}

/** "cookies" would leave the browser's half of the binding there, which then mints a new cookie. */
function forgetAtLogout(ctx: Context & Partial<KoaContextWithOIDC>, dbsc: DbscSessions): void {
  const { oidc } = ctx
  if (oidc?.route !== 'end_session_confirm') return
  if (!(oidc.session as { destroyed?: boolean } | undefined)?.destroyed) return
  // What else lives at the origin would lose what it has stored: its browser learns of it at the next
  // refresh that the session has ended.
  if (!pathOfIssuer(oidc.issuer)) ctx.set('Clear-Site-Data', '"storage"')
  ctx.append('Set-Cookie', dbsc.expiredCookie)
}
