import Router from '@koa/router'
import { maxPasswordBytes } from '../accounts/password.ts'
import type { SignInRules } from '../clients/sign-in-rules.ts'
import type { NewPasswords } from '../http/new-password.ts'
import { publicRoutes } from '../http/routes.ts'
import type { Events } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import { PageError } from '../pages/page-error.ts'
import type { AccountStore } from '../storage/account-store.ts'
import type { Change, ConfirmedChanges } from './confirmed-changes.ts'
import type { Readers } from './reader.ts'

export interface PasswordRouterOptions {
  readonly store: Pick<AccountStore, 'changeOwnPassword'>
  readonly readers: Readers
  readonly changes: ConfirmedChanges
  readonly newPasswords: NewPasswords
  readonly rules: Pick<SignInRules, 'setsPassword'>
  readonly events: Pick<Events, 'passwordChanged'>
  readonly securityEvents: Pick<SecurityEvents, 'report'>
  /** Where My security is. */
  readonly page: string
}

/** Changing the password at My security, with the present one or a passkey. */
export function createPasswordRouter(options: PasswordRouterOptions): Router {
  const { store, readers, changes, newPasswords, rules, events, securityEvents, page } = options
  const router = new Router({ sensitive: true, strict: true })

  function requirePasswords() {
    if (!rules.setsPassword) throw new PageError('invalid_form', 'Expected a server with passwords')
  }

  router.get(publicRoutes.security_password.path, async (ctx) => {
    requirePasswords()
    await changes.show(ctx, await readers.require(ctx), changing)
  })

  router.post(publicRoutes.security_password_submit.path, async (ctx) => {
    requirePasswords()
    const submitted = await readers.submitted(ctx)
    const { reader, form } = submitted
    // First who it is: what a thief of the session types is no work for this server.
    if (!(await changes.isConfirmed(ctx, submitted, changing))) return
    const facts = { ...requestFacts(ctx), account: reader.account.id }
    const password = form.get('new_password') ?? ''
    const made = await newPasswords.hash(ctx, reader.account, { password, facts })
    if (made.hash === undefined) {
      ctx.status = made.status
      await changes.show(ctx, reader, changing, made.problem)
      return
    }
    if (await store.changeOwnPassword(made.hash, reader.about)) {
      securityEvents.report('own_password_changed', reader.about)
      events.passwordChanged(facts)
    }
    ctx.status = 303
    ctx.redirect(page)
  })

  return router
}

const changing: Change = {
  name: 'change password',
  action: publicRoutes.security_password_submit.path,
  heading: { key: 'password.heading' },
  lead: { key: 'password.lead' },
  field: {
    name: 'new_password',
    label: 'password.new',
    value: '',
    maxLength: maxPasswordBytes,
    isNewPassword: true,
  },
}
