import type { DbscRequest, DbscSessions } from '@holdfast/verify/dbsc'
import { koaDbsc } from '@holdfast/verify/dbsc/koa'
import type { PageKeys } from '@holdfast/verify/page-keys'
import type { Context, Middleware } from 'koa'
import type { KoaContextWithOIDC, Provider } from 'oidc-provider'
import { pathOfIssuer } from '../config/issuer-path.ts'
import { browserRequest, type NamedSession } from '../engine/browser-request.ts'
import { browserSessionOf, isUnproven, namedSession, seenSession } from '../engine/session-model.ts'
import { clientInfo, withClientInfo } from '../http/client-info.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import type { PageKeyPages } from './page-key-pages.ts'

export interface DbscMiddlewareOptions {
  readonly provider: Provider
  readonly dbsc: DbscSessions
  readonly events: SecurityEvents
  /** Undefined where pages bind no sessions. */
  readonly pageKeys: Pick<PageKeys, 'boundCookie' | 'expiredCookie' | 'handle'> | undefined
  readonly pageKeyPages: Pick<PageKeyPages, 'addScript'> | undefined
  /** Shows a page that opens itself again, from this site. */
  readonly interstitial: (ctx: Context, to: string, found: NamedSession) => void
}

/**
 * Device Bound Session Credentials around the engine, and page keys where browsers have no such:
 * endpoints, offers, the interstitial, and the end.
 */
export function dbscMiddleware({
  provider,
  dbsc,
  events,
  pageKeys,
  pageKeyPages,
  interstitial,
}: DbscMiddlewareOptions): Middleware {
  const handle = async (request: DbscRequest) =>
    (await pageKeys?.handle(request)) ?? dbsc.handle(request)
  const endpoints = koaDbsc(
    { ...dbsc, handle },
    async (ctx: Context) => (await namedSession(provider, ctx))?.session.uid,
  )

  return (ctx, next) =>
    withClientInfo(ctx, () =>
      endpoints(ctx, async () => {
        if (isArrival(ctx)) {
          const found = await namedSession(provider, ctx)
          const isRefreshed = found && canRefresh(ctx, found, pageKeys)
          if (isRefreshed && isUnproven(found)) return interstitial(ctx, '', found)
        }
        await next()
        offerOnce(ctx, dbsc)
        const { pageKeyOf } = browserRequest(ctx)
        if (pageKeys && pageKeyOf) ctx.append('Set-Cookie', pageKeys.boundCookie(pageKeyOf))
        forgetAtLogout(ctx, [dbsc.expiredCookie, ...(pageKeys ? [pageKeys.expiredCookie] : [])])
        const found = seenSession(ctx)
        pageKeyPages?.addScript(ctx, found)
        if (found && isUnproven(found)) {
          const { accountId, uid: sessionUid } = found.session
          await events.record('session_unproven', { accountId, sessionUid, ...clientInfo(ctx) })
        }
      }),
    )
}

/** Whether a browser opens a page, by something else than a page of ours. */
function isArrival(ctx: Context): boolean {
  return (
    ctx.method === 'GET' &&
    ctx.get('sec-fetch-dest') === 'document' &&
    ['cross-site', 'same-site', 'none'].includes(ctx.get('sec-fetch-site'))
  )
}

/**
 * Whether a page in between leads to a proof. Browsers do not refresh for the requests of others,
 * and follow redirects in their name: only a page of our own can make them. From it, the same
 * request comes as our own, so that there is one interstitial and never two. A browser that does not say
 * where a request comes from binds no sessions either. For page keys, browsers refresh in no case.
 */
function canRefresh(
  ctx: Context,
  { session: { binding } }: NamedSession,
  pageKeys: object | undefined,
): boolean {
  if (binding?.method === 'page-key') return pageKeys !== undefined
  return ctx.get('sec-fetch-site') !== 'none'
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
function forgetAtLogout(
  ctx: Context & Partial<KoaContextWithOIDC>,
  expiredCookies: readonly string[],
): void {
  const { oidc } = ctx
  if (oidc?.route !== 'end_session_confirm') return
  if (!(oidc.session as { destroyed?: boolean } | undefined)?.destroyed) return
  // What else lives at the origin would lose what it has stored: its browser learns of it at the next
  // refresh that the session has ended.
  if (!pathOfIssuer(oidc.issuer)) ctx.set('Clear-Site-Data', '"storage"')
  ctx.append('Set-Cookie', [...expiredCookies])
}
