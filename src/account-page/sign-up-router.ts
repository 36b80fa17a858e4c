import Router, { type RouterContext } from '@koa/router'
import { AccountError } from '../accounts/account-error.ts'
import { readEmail } from '../accounts/email.ts'
import { type SignUps, signUpLifetimeHours } from '../accounts/sign-ups.ts'
import type { SignUpPolicy } from '../config/sign-up-config.ts'
import { readForm } from '../http/form-body.ts'
import { publicRoutes } from '../http/routes.ts'
import type { SignUpReturn } from '../http/sign-up-return.ts'
import type { LoginLimits, LoginLimitsOptions } from '../limits/login-limits.ts'
import type { Outbox } from '../mail/outbox.ts'
import type { Events } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { SignUpPage } from '../pages/account-pages.ts'
import type { Message, MessageKey } from '../pages/messages.ts'
import { PageError } from '../pages/page-error.ts'
import type { Views } from '../pages/views.ts'
import type { Limiter } from '../storage/limiter.ts'

export interface SignUpRouterOptions {
  readonly policy: Exclude<SignUpPolicy, { mode: 'closed' }>
  readonly signUps: Pick<SignUps, 'allows' | 'complete' | 'find' | 'invitationOf'>
  readonly outbox: Outbox
  readonly limits: {
    /** Of one network: what is refused by it reaches no database. */
    readonly network: Pick<LoginLimits, 'admit'>
    /** Mails to one address. */
    readonly address: Pick<Limiter, 'take'>
    /** Mails of everyone. */
    readonly total: Pick<Limiter, 'take'>
  }
  readonly signUpReturn: SignUpReturn
  readonly views: Pick<Views, 'signUp'>
  readonly events: Pick<Events, 'rateLimited' | 'signedUp'>
  /** The public path of this server. */
  readonly base: string
}

const hour = 60 * 60

/** For requests of a network, right or wrong. */
export const signUpNetworkLimits: LoginLimitsOptions = { name: 'sign-up', perNetwork: 100 }

/** Mails to one address: all of their links work, so that a flood keeps nobody out. */
export const signUpAddressLimit = { name: 'sign-up-address', points: 3, duration: hour }

/** Mails of everyone: a domain has more addresses than one network can ask for. */
export const signUpTotalLimit = { name: 'sign-up-total', points: 1000, duration: hour }

interface Refusal {
  readonly status: number
  readonly problem: MessageKey | Message
}

/**
 * People make accounts for themselves. The page answers the same for every address that may have an
 * account; whether it has one is looked up when the mail is sent. Until someone opens the link in
 * that mail, nothing is kept but the mail, and no password is hashed.
 */
export function createSignUpRouter(options: SignUpRouterOptions): Router {
  const { policy, signUps, outbox, limits, signUpReturn, views, events, base } = options
  const router = new Router({ sensitive: true, strict: true })
  const needsCode = policy.mode === 'invitation'
  const domains = policy.mode === 'domains' ? policy.domains : []

  function show(ctx: RouterContext, page: SignUpPage) {
    ctx.type = 'html'
    ctx.body = views.signUp(page)
  }

  router.get(publicRoutes.sign_up.path, (ctx) => {
    const { code, interaction } = ctx.query
    const [typed, uid] = [code, interaction].map((value) =>
      typeof value === 'string' ? value : '',
    )
    show(ctx, {
      ...{ state: 'ask', email: '', code: typed ?? '', interaction: uid ?? '' },
      ...{ needsCode, domains },
    })
  })

  router.post(publicRoutes.sign_up_submit.path, async (ctx) => {
    const form = await readForm(ctx)
    const field = (name: string) => form.get(name) ?? ''
    const [email, code, interaction] = [field('email'), field('code'), field('interaction')]
    const refusal = await refusalOf(ctx, { email, code })
    if (refusal) {
      ctx.status = refusal.status
      const { problem } = refusal
      show(ctx, { state: 'ask', email, code, interaction, needsCode, domains, problem })
      return
    }
    signUpReturn.keep(ctx, interaction)
    show(ctx, { state: 'sent', email: readEmail(email) ?? '' })
  })

  /** Queues the mail, or says why not: what costs least is looked at first. */
  async function refusalOf(
    ctx: RouterContext,
    typed: { email: string; code: string },
  ): Promise<Refusal | undefined> {
    const email = readEmail(typed.email)
    if (!email) return { status: 400, problem: 'forgotten.invalid' }
    if (!signUps.allows(email)) return { status: 400, problem: 'sign_up.other_domain' }
    const facts = requestFacts(ctx)
    const attempt = { email: undefined, address: facts.address ?? '' }
    const { refusal } = await limits.network.admit(attempt)
    if (refusal) return limited(ctx, refusal.retryAfter)
    const invitation = needsCode ? await signUps.invitationOf(typed.code) : null
    if (invitation === undefined) return { status: 400, problem: 'sign_up.wrong_code' }
    // Where the address has had its share, the links of those mails still work.
    if ((await limits.address.take(email)) !== undefined) {
      events.rateLimited(facts, 'sign_up')
      return undefined
    }
    const lifetimeS = signUpLifetimeHours.confirmation * hour
    const mail = { kind: 'sign_up', to: email, invitation } as const
    const isFull = (await limits.total.take('')) !== undefined
    if (!isFull && (await outbox.queue(mail, { origin: 'sign_up', lifetimeS }))) return undefined
    events.rateLimited(facts, 'sign_up_total')
    return { status: 503, problem: 'forgotten.busy' }
  }

  function limited(ctx: RouterContext, waitS: number): Refusal {
    events.rateLimited(requestFacts(ctx), 'sign_up')
    ctx.set('retry-after', String(waitS))
    const values = { minutes: Math.ceil(waitS / 60) }
    return { status: 429, problem: { key: 'sign_up.limited', values } }
  }

  router.get(publicRoutes.sign_up_link.path, async (ctx) => {
    const token = String(ctx.params.token)
    const found = await signUps.find(token)
    if (!found) throw expired()
    show(ctx, { state: 'confirm', token, email: found.email, name: '' })
  })

  router.post(publicRoutes.sign_up_link_submit.path, async (ctx) => {
    const token = String(ctx.params.token)
    const found = await signUps.find(token)
    if (!found) throw expired()
    const { email } = found
    const name = (await readForm(ctx)).get('name') ?? ''
    try {
      const done = await signUps.complete(token, name)
      if (!done) throw expired()
      if (done.outcome !== 'made') {
        ctx.status = 409
        show(ctx, { state: done.outcome === 'used up' ? 'used_up' : 'has_account', email })
        return
      }
      const facts = { ...requestFacts(ctx), account: done.accountId }
      events.signedUp(facts, done.invitation === null ? {} : { invitation: done.invitation })
      ctx.status = 303
      ctx.redirect(base + publicRoutes.account_link.path.replace(':token', done.linkToken))
    } catch (error) {
      if (!(error instanceof AccountError)) throw error
      ctx.status = 400
      show(ctx, { state: 'confirm', token, email, name, problem: 'profile.invalid_name' })
    }
  })

  return router
}

const expired = () => new PageError('expired_link', 'Expected a link that can be used')
