import Router, { type RouterContext } from '@koa/router'
import { type CanonicalEmail, readEmail } from '../accounts/email.ts'
import type { EmailChanges } from '../accounts/email-changes.ts'
import type { SelfService } from '../config/self-service-config.ts'
import { clientInfo } from '../http/client-info.ts'
import { publicRoutes } from '../http/routes.ts'
import type { LoginLimits } from '../limits/login-limits.ts'
import type { Events } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import type { EmailChangePage } from '../pages/account-pages.ts'
import { PageError } from '../pages/page-error.ts'
import type { Views } from '../pages/views.ts'
import type { Limiter } from '../storage/limiter.ts'
import type { Change, ConfirmedChanges } from './confirmed-changes.ts'
import type { Reader, Readers } from './reader.ts'

export interface EmailRouterOptions {
  readonly readers: Readers
  readonly confirmations: ConfirmedChanges
  /** Undefined where no mail is sent: then an operator changes it. */
  readonly emailChanges: EmailChanges | undefined
  /** By new address, and by network. */
  readonly limits: Pick<LoginLimits, 'admit'>
  /** By account. */
  readonly accountLimit: Pick<Limiter, 'take'>
  readonly selfService: readonly SelfService[]
  readonly views: Pick<Views, 'emailChange'>
  readonly events: Pick<Events, 'emailChangeRequested' | 'emailChanged' | 'rateLimited'>
  readonly securityEvents: Pick<SecurityEvents, 'report'>
}

/** Changes that one account may ask for, in a time in seconds. */
export const emailChangeLimit = { name: 'email-changes', points: 5, duration: 60 * 60 }

const change: Change = {
  name: 'change email',
  heading: { key: 'email_change.heading' },
  lead: { key: 'email_change.lead' },
  action: publicRoutes.security_email_submit.path,
  back: publicRoutes.security_profile.path,
  field: { name: 'new_email', label: 'email_change.field', value: '', maxLength: 254 },
}

/**
 * A person changes the email of an account: after a fresh authentication, a link is mailed to the
 * new address, and its page confirms the change. That page asks for no session: the token of the
 * link is the only secret, and nobody is signed in by it.
 */
export function createEmailRouter(options: EmailRouterOptions): Router {
  const { readers, confirmations, emailChanges, views, events, securityEvents } = options
  const router = new Router({ sensitive: true, strict: true })

  function requireAllowed() {
    if (options.selfService.includes('email')) return
    throw new PageError('invalid_form', 'Expected a server on which people change this')
  }

  function requireMail(): EmailChanges {
    if (emailChanges) return emailChanges
    throw new PageError('invalid_form', 'Expected a server that sends mail')
  }

  function show(ctx: RouterContext, page: EmailChangePage) {
    ctx.type = 'html'
    ctx.body = views.emailChange(page)
  }

  router.get(publicRoutes.security_email.path, async (ctx) => {
    requireAllowed()
    const reader = await readers.require(ctx)
    if (emailChanges) return confirmations.show(ctx, reader, change)
    show(ctx, { state: 'no_mail', present: reader.account.email })
  })

  router.post(publicRoutes.security_email_submit.path, async (ctx) => {
    requireAllowed()
    const submitted = await readers.submitted(ctx)
    const changes = requireMail()
    const { reader, form } = submitted
    const typed = form.get('new_email') ?? ''
    const again = { ...change, field: { ...change.field, value: typed } } as Change
    if (!(await confirmations.isConfirmed(ctx, submitted, again))) return
    const email = readEmail(typed)
    const { account } = reader
    if (!email || email === account.email) {
      ctx.status = 400
      const problem = email ? 'email_change.same' : 'forgotten.invalid'
      await confirmations.show(ctx, reader, again, problem)
      return
    }
    const waitS = await secondsToWait(ctx, reader, email)
    if (waitS !== undefined) {
      ctx.set('retry-after', String(waitS))
      ctx.status = 429
      const values = { minutes: Math.ceil(waitS / 60) }
      await confirmations.show(ctx, reader, again, { key: 'email_change.limited', values })
      return
    }
    if (!(await changes.request(reader.about, { present: account.email, email }))) {
      ctx.status = 503
      await confirmations.show(ctx, reader, again, 'forgotten.busy')
      return
    }
    events.emailChangeRequested({ ...requestFacts(ctx), account: account.id })
    securityEvents.report('email_change_requested', reader.about)
    show(ctx, { state: 'sent', present: account.email, email })
  })

  /** Undefined where the account may ask for this change now. */
  async function secondsToWait(ctx: RouterContext, { account }: Reader, email: CanonicalEmail) {
    const facts = { ...requestFacts(ctx), account: account.id }
    const ofAccount = await options.accountLimit.take(account.id)
    if (ofAccount !== undefined) {
      events.rateLimited(facts, 'email_change')
      return ofAccount
    }
    const { refusal } = await options.limits.admit({ email, address: facts.address ?? '' })
    if (refusal) events.rateLimited(facts, 'email_change')
    return refusal?.retryAfter
  }

  router.get(publicRoutes.email_change.path, async (ctx) => {
    const token = String(ctx.params.token)
    const found = await emailChanges?.find(token)
    if (!found) throw expired()
    show(ctx, { state: 'confirm', token, present: found.present, email: found.email })
  })

  router.post(publicRoutes.email_change_submit.path, async (ctx) => {
    const token = String(ctx.params.token)
    const found = await emailChanges?.find(token)
    if (!found) throw expired()
    const { present, email } = found
    const confirmed = await emailChanges?.confirm(token, clientInfo(ctx))
    if (confirmed === undefined) throw expired()
    if (confirmed === 'email taken') {
      ctx.status = 409
      show(ctx, { state: 'taken', present, email })
      return
    }
    events.emailChanged({ ...requestFacts(ctx), account: confirmed })
    securityEvents.report('email_changed', { accountId: confirmed, ...clientInfo(ctx) })
    show(ctx, { state: 'done', present, email })
  })

  return router
}

const expired = () => new PageError('expired_link', 'Expected a link that can be used')
