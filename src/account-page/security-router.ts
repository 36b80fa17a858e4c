import Router, { type RouterContext } from '@koa/router'
import type { ClientMetadata } from 'oidc-provider'
import type { Accounts } from '../accounts/accounts.ts'
import { signInUrl } from '../clients/security-client.ts'
import type { SignInRules } from '../clients/sign-in-rules.ts'
import { endedChainMemoryS } from '../config/lifetimes.ts'
import type { FormTokens } from '../http/form-token.ts'
import { publicRoutes } from '../http/routes.ts'
import { allowScript } from '../http/script-source.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import { passkeyLine } from '../pages/account-pages.ts'
import {
  applicationLine,
  eventLine,
  failureLine,
  type SecurityPage,
  sessionLine,
} from '../pages/security-page.ts'
import type { Views } from '../pages/views.ts'
import type { ArtifactTable } from '../storage/artifact-table.ts'
import type { BrowserSessionTable } from '../storage/browser-session-table.ts'
import { isDocumentId } from '../storage/client-document-table.ts'
import type { ClientTable } from '../storage/client-table.ts'
import type { FailedSignInTable } from '../storage/failed-sign-in-table.ts'
import type { PasskeyTable } from '../storage/passkey-table.ts'
import type { SecondFactorTable } from '../storage/second-factor-table.ts'
import type { SecurityEventTable } from '../storage/security-event-table.ts'
import { type Reader, type Readers, signInFirst } from './reader.ts'

export interface SecurityRouterOptions {
  readers: Readers
  views: Pick<Views, 'security'>
  tables: {
    artifacts: ArtifactTable
    browserSessions: BrowserSessionTable
    clients: ClientTable
    failedSignIns: FailedSignInTable
    passkeys: PasskeyTable
    secondFactors: Pick<SecondFactorTable, 'countRecoveryCodes'>
    securityEvents: SecurityEventTable
  }
  events: SecurityEvents
  accounts: Pick<Accounts, 'hasPassword'>
  rules: Pick<SignInRules, 'setsPassword' | 'secondFactor'>
  publicOrigin: string
  /** The public path of this server. */
  base: string
  forms: FormTokens
  /** What passkeys are for, and the script of pages about them; undefined where there are none. */
  passkeys: { rpId: string; scriptUrl: string } | undefined
}

const shownEvents = 20
/** Hours in which sign-ins failed: they have a list of their own, so that no attacker fills the other. */
const shownFailures = 5

/** "My security": where a person is signed in, what holds tokens, what happened; and the end of it. */
export function createSecurityRouter({
  readers,
  views,
  tables,
  events,
  accounts,
  rules,
  publicOrigin,
  base,
  forms,
  passkeys,
}: SecurityRouterOptions): Router {
  const { artifacts, browserSessions, clients, failedSignIns, securityEvents } = tables
  const { passkeys: table, secondFactors } = tables
  const router = new Router({ sensitive: true, strict: true })
  const page = base + publicRoutes.security.path

  /** The passkeys of a reader, for the page and for the browser. */
  async function passkeysOf({ account }: Reader): Promise<SecurityPage['passkeys']> {
    if (!passkeys) return undefined
    const own = await table.listOf(account.id)
    return {
      lines: own.map(passkeyLine),
      signals: {
        rpId: passkeys.rpId,
        userId: Buffer.from(account.id).toString('base64url'),
        ids: own.map(({ credentialId }) => credentialId),
        name: account.email,
        displayName: account.name ?? account.email,
      },
    }
  }

  /** One whose document is gone is still there to be ended. */
  async function findClient(clientId: string): Promise<ClientMetadata | undefined> {
    if (!isDocumentId(clientId)) return clients.find(clientId)
    const found = await clients.find(clientId).catch(() => undefined)
    return found ?? { client_id: clientId }
  }

  async function codeAppOf({ account }: Reader): Promise<SecurityPage['codeApp']> {
    if (!rules.setsPassword) return undefined
    const isSetUp = account.hasCodeApp === true
    return {
      isSetUp,
      isRemovable: rules.secondFactor === 'optional',
      recoveryCodes: isSetUp ? await secondFactors.countRecoveryCodes(account.id) : 0,
    }
  }

  function toPage(ctx: RouterContext) {
    ctx.status = 303
    ctx.redirect(page)
  }

  router.get(publicRoutes.home.path, toPage)
  // Password managers open it (W3C, "A Well-Known URL for Changing Passwords").
  router.get(publicRoutes.change_password.path, toPage)

  router.get(publicRoutes.security.path, async (ctx) => {
    const who = await readers.find(ctx)
    // With the answer of /authorize, whether they have signed in or not.
    const isBack = ctx.query.iss !== undefined
    if (!who && isBack) throw signInFirst()
    if (!who || isBack) {
      ctx.status = 303
      ctx.redirect(who ? page : signInUrl(publicOrigin + base))
      return
    }
    const { sessionUid: uid, account } = who
    const [
      sessions,
      grants,
      installations,
      recent,
      failures,
      ownPasskeys,
      hasApprovals,
      hasPassword,
    ] = await Promise.all([
      browserSessions.listOf(account.id),
      artifacts.listGrantsOf(account.id),
      artifacts.listInstallationsOf(account.id),
      securityEvents.listOf(account.id, shownEvents),
      failedSignIns.listOf(account.id, shownFailures),
      passkeysOf(who),
      clients.hasCiba(),
      rules.setsPassword ? accounts.hasPassword(account) : undefined,
    ])
    const applications = await Promise.all(
      grants.map(async (grant) => {
        const client = await findClient(grant.clientId)
        const own = installations.filter(({ clientId }) => clientId === grant.clientId)
        return client ? [applicationLine(grant, client, own)] : []
      }),
    )
    if (passkeys) allowScript(ctx, passkeys.scriptUrl)
    ctx.type = 'html'
    ctx.body = views.security({
      email: account.email,
      token: forms.make(uid),
      sessions: sessions.map((session) => sessionLine(session, uid)),
      passkeys: ownPasskeys,
      hasApprovals,
      hasPassword,
      codeApp: await codeAppOf(who),
      applications: applications.flat(),
      failures: failures.map(failureLine),
      events: recent.map(eventLine),
    })
  })

  router.post(publicRoutes.security_end_session.path, async (ctx) => {
    const { reader, form } = await readers.submitted(ctx)
    const { about, account } = reader
    const sessionUid = form.get('session') ?? ''
    const session = await browserSessions.find(sessionUid)
    // Anyone who knows the name of someone else's session must not end it.
    if (session?.accountId === account.id && (await browserSessions.end(sessionUid))) {
      await events.record('session_ended', { ...about, sessionUid })
    }
    toPage(ctx)
  })

  router.post(publicRoutes.security_end_others.path, async (ctx) => {
    const { about, account, sessionUid: uid } = (await readers.submitted(ctx)).reader
    await browserSessions.endAllOf(account.id, { but: uid })
    await events.record('other_sessions_ended', about)
    toPage(ctx)
  })

  router.post(publicRoutes.security_end_application.path, async (ctx) => {
    const { reader, form } = await readers.submitted(ctx)
    const { about, account } = reader
    const clientId = form.get('client_id') ?? ''
    await artifacts.removeGrantsOf(account.id, clientId)
    await events.record('access_ended', about)
    toPage(ctx)
  })

  router.post(publicRoutes.security_end_installation.path, async (ctx) => {
    const { reader, form } = await readers.submitted(ctx)
    const { about, account } = reader
    const isEnded = await artifacts.endInstallation({
      accountId: account.id,
      clientId: form.get('client_id') ?? '',
      jkt: form.get('jkt') ?? '',
      rememberSeconds: endedChainMemoryS,
    })
    if (isEnded) await events.record('access_ended', about)
    toPage(ctx)
  })

  return router
}
