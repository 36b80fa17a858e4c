import Router from '@koa/router'
import { linkLifetimeHours } from '../accounts/account-links.ts'
import { readEmail } from '../accounts/email.ts'
import { readForm } from '../http/form-body.ts'
import { publicRoutes } from '../http/routes.ts'
import type { LoginLimits } from '../limits/login-limits.ts'
import type { Outbox } from '../mail/outbox.ts'
import type { Events } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { ForgottenPage } from '../pages/account-pages.ts'
import type { Views } from '../pages/views.ts'

export interface ForgottenRouterOptions {
  /** Undefined where no mail is sent. */
  readonly outbox: Outbox | undefined
  /** By address, whether an account has it or not, and by network. */
  readonly limits: Pick<LoginLimits, 'admit'>
  readonly views: Pick<Views, 'forgotten'>
  readonly events: Pick<Events, 'rateLimited'>
}

/**
 * Asks for the address of someone who cannot sign in, and has a link mailed to it. What is done and
 * answered here is the same for every address: whether an account has it is looked up when the mail
 * is sent.
 */
export function createForgottenRouter({
  outbox,
  limits,
  views,
  events,
}: ForgottenRouterOptions): Router {
  const router = new Router({ sensitive: true, strict: true })
  const page = (of: Partial<ForgottenPage> = {}) =>
    views.forgotten({ email: '', state: outbox ? 'ask' : 'no_mail', ...of })

  router.get(publicRoutes.forgotten.path, (ctx) => {
    ctx.type = 'html'
    ctx.body = page()
  })

  router.post(publicRoutes.forgotten_submit.path, async (ctx) => {
    const typed = (await readForm(ctx)).get('email') ?? ''
    ctx.type = 'html'
    if (!outbox) {
      ctx.body = page()
      return
    }
    const email = readEmail(typed)
    if (!email) {
      ctx.status = 400
      ctx.body = page({ email: typed, problem: 'forgotten.invalid' })
      return
    }
    const facts = requestFacts(ctx)
    const { refusal } = await limits.admit({ email, address: facts.address ?? '' })
    if (refusal) events.rateLimited(facts, 'forgotten')
    if (refusal?.limit === 'login_address') {
      const values = { minutes: Math.ceil(refusal.retryAfter / 60) }
      ctx.set('retry-after', String(refusal.retryAfter))
      ctx.status = 429
      ctx.body = page({ email: typed, problem: { key: 'forgotten.limited', values } })
      return
    }
    // Where the address has had its share, the links of those mails still work.
    const lifetimeS = linkLifetimeHours.forgotten * 3600
    const about = { origin: 'stranger', lifetimeS } as const
    if (!refusal && !(await outbox.queue({ kind: 'forgotten', to: email }, about))) {
      ctx.status = 503
      ctx.body = page({ email: typed, problem: 'forgotten.busy' })
      return
    }
    ctx.body = page({ email, state: 'sent' })
  })

  return router
}
