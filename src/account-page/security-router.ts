import Router, { type RouterContext } from '@koa/router'
import type { Provider } from 'oidc-provider'
import type { Accounts } from '../accounts/accounts.ts'
import { signInUrl } from '../clients/security-client.ts'
import { clientInfo } from '../http/client-info.ts'
import { readForm } from '../http/form-body.ts'
import type { FormTokens } from '../http/form-token.ts'
import { publicRoutes } from '../http/routes.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import { PageError } from '../pages/page-error.ts'
import { applicationLine, eventLine, failureLine, sessionLine } from '../pages/security-page.ts'
import type { Views } from '../pages/views.ts'
import type { ArtifactTable } from '../storage/artifact-table.ts'
import type { BrowserSessionTable } from '../storage/browser-session-table.ts'
import type { ClientTable } from '../storage/client-table.ts'
import type { FailedSignInTable } from '../storage/failed-sign-in-table.ts'
import type { SecurityEventTable } from '../storage/security-event-table.ts'

export interface SecurityRouterOptions {
  provider: Provider
  accounts: Pick<Accounts, 'findActive'>
  views: Pick<Views, 'security'>
  tables: {
    artifacts: ArtifactTable
    browserSessions: BrowserSessionTable
    clients: ClientTable
    failedSignIns: FailedSignInTable
    securityEvents: SecurityEventTable
  }
  events: SecurityEvents
  publicOrigin: string
  /** The public path of this server. */
  base: string
  forms: FormTokens
}

const shownEvents = 20
/** Hours in which sign-ins failed: they have a list of their own, so that no attacker fills the other. */
const shownFailures = 5

/** "My security": where a person is signed in, what holds tokens, what happened; and the end of it. */
export function createSecurityRouter({
  provider,
  accounts,
  views,
  tables: { artifacts, browserSessions, clients, failedSignIns, securityEvents },
  events,
  publicOrigin,
  base,
  forms,
}: SecurityRouterOptions): Router {
  const router = new Router({ sensitive: true, strict: true })
  const page = base + publicRoutes.security.path

  /** Who reads, in which session: one whose key was proven, as on every page. */
  async function reader(ctx: RouterContext) {
    const { uid, accountId } = await provider.Session.get(ctx)
    const account = accountId && (await accounts.findActive(accountId))
    return account && { uid, account, about: { accountId: account.id, ...clientInfo(ctx) } }
  }

  async function submitted(ctx: RouterContext, name: string) {
    const who = await reader(ctx)
    if (!who) throw signInFirst()
    const form = await readForm(ctx)
    if (!forms.accepts(who.uid, form.get('token') ?? '')) {
      throw new PageError('invalid_form', 'Expected the token of this session')
    }
    return { ...who, value: form.get(name) ?? '' }
  }

  function toPage(ctx: RouterContext) {
    ctx.status = 303
    ctx.redirect(page)
  }

  router.get(publicRoutes.home.path, toPage)
  // Password managers open it (W3C, "A Well-Known URL for Changing Passwords").
  router.get(publicRoutes.change_password.path, toPage)

  router.get(publicRoutes.security.path, async (ctx) => {
    const who = await reader(ctx)
    // With the answer of /authorize, whether they have signed in or not.
    const isBack = ctx.query.iss !== undefined
    if (!who && isBack) throw signInFirst()
    if (!who || isBack) {
      ctx.status = 303
      ctx.redirect(who ? page : signInUrl(publicOrigin + base))
      return
    }
    const { uid, account } = who
    const [sessions, grants, recent, failures] = await Promise.all([
      browserSessions.listOf(account.id),
      artifacts.listGrantsOf(account.id),
      securityEvents.listOf(account.id, shownEvents),
      failedSignIns.listOf(account.id, shownFailures),
    ])
    const applications = await Promise.all(
      grants.map(async (grant) => {
        const client = await clients.find(grant.clientId)
        return client ? [applicationLine(grant, client)] : []
      }),
    )
    ctx.type = 'html'
    ctx.body = views.security({
      email: account.email,
      token: forms.make(uid),
      sessions: sessions.map((session) => sessionLine(session, uid)),
      applications: applications.flat(),
      failures: failures.map(failureLine),
      events: recent.map(eventLine),
    })
  })

  router.post(publicRoutes.security_end_session.path, async (ctx) => {
    const { about, account, value: sessionUid } = await submitted(ctx, 'session')
    const session = await browserSessions.find(sessionUid)
    // Anyone who knows the name of someone else's session must not end it.
    if (session?.accountId === account.id && (await browserSessions.end(sessionUid))) {
      await events.record('session_ended', { ...about, sessionUid })
    }
    toPage(ctx)
  })

  router.post(publicRoutes.security_end_others.path, async (ctx) => {
    const { about, account, uid } = await submitted(ctx, '')
    await browserSessions.endAllOf(account.id, { but: uid })
    await events.record('other_sessions_ended', { ...about, sessionUid: uid })
    toPage(ctx)
  })

  router.post(publicRoutes.security_end_application.path, async (ctx) => {
    const { about, account, uid, value: clientId } = await submitted(ctx, 'client_id')
    await artifacts.removeGrantsOf(account.id, clientId)
    await events.record('access_ended', { ...about, sessionUid: uid })
    toPage(ctx)
  })

  return router
}

function signInFirst(): PageError {
  return new PageError('sign_in_first', 'Expected a session')
}
