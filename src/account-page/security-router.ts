import Router from '@koa/router'
import type { Accounts } from '../accounts/accounts.ts'
import type { SignInRules } from '../clients/sign-in-rules.ts'
import { publicRoutes } from '../http/routes.ts'
import { allowScript } from '../http/script-source.ts'
import { passkeyLine } from '../pages/account-pages.ts'
import { eventLine, failureLine, type SignInMethodsPage } from '../pages/security-page.ts'
import type { Views } from '../pages/views.ts'
import type { FailedSignInTable } from '../storage/failed-sign-in-table.ts'
import type { PasskeyTable } from '../storage/passkey-table.ts'
import type { SecondFactorTable } from '../storage/second-factor-table.ts'
import type { SecurityEventTable } from '../storage/security-event-table.ts'
import type { AccountPages, PasskeyPages } from './account-pages.ts'
import type { Reader } from './reader.ts'

export interface SecurityRouterOptions {
  readonly pages: AccountPages
  readonly views: Pick<Views, 'signInMethods' | 'activity'>
  readonly tables: {
    readonly failedSignIns: FailedSignInTable
    readonly passkeys: PasskeyTable
    readonly secondFactors: Pick<SecondFactorTable, 'countRecoveryCodes'>
    readonly securityEvents: SecurityEventTable
  }
  readonly accounts: Pick<Accounts, 'hasPassword'>
  readonly rules: Pick<SignInRules, 'setsPassword' | 'secondFactor'>
  /** Undefined where browsers make none for this server. */
  readonly passkeys: PasskeyPages | undefined
}

const shownEvents = 50
/** Hours in which sign-ins failed: they have a list of their own, so that no attacker fills the other. */
const shownFailures = 10

/** The pages of an account on which a person reads how they sign in, and what happened. */
export function createSecurityRouter(options: SecurityRouterOptions): Router {
  const { pages, views, tables, accounts, rules, passkeys } = options
  const { failedSignIns, passkeys: table, secondFactors, securityEvents } = tables
  const router = new Router({ sensitive: true, strict: true })

  /** The passkeys of a reader, for the page and for the browser. */
  async function passkeysOf({ account }: Reader): Promise<SignInMethodsPage['passkeys']> {
    if (!passkeys) return undefined
    const own = await table.listOf(account.id)
    return {
      lines: own.map((each) => passkeyLine(each, passkeys.isAllowed(each))),
      signals: passkeys.signalsOf(account, own),
    }
  }

  async function codeAppOf({ account }: Reader): Promise<SignInMethodsPage['codeApp']> {
    if (!rules.setsPassword) return undefined
    const isSetUp = account.hasCodeApp === true
    return {
      isSetUp,
      isRemovable: rules.secondFactor === 'optional',
      recoveryCodes: isSetUp ? await secondFactors.countRecoveryCodes(account.id) : 0,
    }
  }

  router.get(publicRoutes.home.path, (ctx) => pages.redirect(ctx, 'security_sign_in'))
  // Password managers open it (W3C, "A Well-Known URL for Changing Passwords").
  router.get(publicRoutes.change_password.path, (ctx) => pages.redirect(ctx, 'security_sign_in'))

  // What people know, and where sign-ins lead that began at an earlier release.
  router.get(publicRoutes.security.path, (ctx) => pages.redirect(ctx, 'security_sign_in', true))

  router.get(publicRoutes.security_sign_in.path, (ctx) =>
    pages.show(ctx, 'security_sign_in', async (reader, frame) => {
      const [ownPasskeys, hasPassword, codeApp] = await Promise.all([
        passkeysOf(reader),
        rules.setsPassword ? accounts.hasPassword(reader.account) : undefined,
        codeAppOf(reader),
      ])
      if (passkeys) allowScript(ctx, passkeys.scriptUrl)
      return views.signInMethods({ ...frame, passkeys: ownPasskeys, hasPassword, codeApp })
    }),
  )

  router.get(publicRoutes.security_activity.path, (ctx) =>
    pages.show(ctx, 'security_activity', async ({ account }, frame) => {
      const [failures, recent] = await Promise.all([
        failedSignIns.listOf(account.id, shownFailures),
        securityEvents.listOf(account.id, shownEvents),
      ])
      return views.activity({
        ...frame,
        failures: failures.map(failureLine),
        events: recent.map(eventLine),
      })
    }),
  )

  return router
}
