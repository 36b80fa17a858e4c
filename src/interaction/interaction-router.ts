import Router, { type RouterContext } from '@koa/router'
import type { InteractionResults, Provider } from 'oidc-provider'
import type { Accounts } from '../accounts/accounts.ts'
import { signInMethods } from '../accounts/acr.ts'
import { QueueFullError } from '../accounts/bounded-queue.ts'
import { readEmail } from '../accounts/email.ts'
import { type ClientInfo, clientInfo } from '../http/client-info.ts'
import {
  currentInteraction,
  type Interaction,
  requireItsSession,
  shownInteraction,
  submittedForm,
} from '../http/current-interaction.ts'
import type { FormTokens } from '../http/form-token.ts'
import { publicRoutes } from '../http/routes.ts'
import type { LoginLimits } from '../limits/login-limits.ts'
import type { Events } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { FindResourceLabels } from '../pages/scope-labels.ts'
import type { Views } from '../pages/views.ts'
import type { FailedSignInTable } from '../storage/failed-sign-in-table.ts'
import { grantConsent, missingConsent } from './consent.ts'
import { createInteractionPages } from './interaction-pages.ts'
import { leaveOtherAccount } from './leave-other-account.ts'

export interface InteractionDependencies {
  provider: Provider
  accounts: Pick<Accounts, 'authenticate' | 'findActive' | 'isBusy'>
  views: Pick<Views, 'signIn' | 'consent'>
  events: Pick<
    Events,
    'signedIn' | 'signInFailed' | 'consented' | 'consentDenied' | 'rateLimited' | 'shed'
  >
  limits: LoginLimits
  /** Failed sign-ins that the owner of an account is shown. */
  failures: Pick<FailedSignInTable, 'add'>
  forms: FormTokens
  /** Ends a session of this browser whose key is lost. */
  endSession: (uid: string, accountId: string, by: ClientInfo) => Promise<void>
  /** What a registered resource server and its scopes are called on the consent page. */
  resourceLabels?: FindResourceLabels
}

/** The pages between /authorize and its resumption: who is it, and may the client have that. */
export function createInteractionRouter(dependencies: InteractionDependencies): Router {
  const { provider, accounts, events, limits, failures, forms } = dependencies
  const pages = createInteractionPages(dependencies)
  const router = new Router({ sensitive: true, strict: true })

  async function finish(
    ctx: RouterContext,
    result: InteractionResults,
    mergeWithLastSubmission: boolean,
  ) {
    ctx.status = 303
    ctx.redirect(
      await provider.interactionResult(ctx.req, ctx.res, result, { mergeWithLastSubmission }),
    )
  }

  router.get(publicRoutes.interaction.path, async (ctx) => {
    const interaction = await shownInteraction(provider, ctx)
    if (interaction.prompt.name === 'login') return pages.signIn(ctx, interaction)
    await requireItsSession(provider, ctx, interaction)
    await pages.consent(ctx, interaction)
  })

  // Also reached from the consent page, to use another account.
  router.get(publicRoutes.sign_in.path, async (ctx) => {
    await pages.signIn(ctx, await shownInteraction(provider, ctx))
  })

  router.post(publicRoutes.sign_in_submit.path, async (ctx) => {
    const interaction = await currentInteraction(provider, ctx)
    const form = await submittedForm(ctx, interaction, forms)
    const email = form.get('email') ?? ''
    const password = form.get('password') ?? ''
    if (!email.trim() || !password) {
      ctx.status = 400
      await pages.signIn(ctx, interaction, {
        email,
        problem: 'sign_in.empty',
      })
      return
    }
    async function tryLater() {
      events.shed('passwords')
      ctx.status = 503
      await pages.signIn(ctx, interaction, { email, problem: 'sign_in.busy' })
    }
    // Before the attempt is counted: people must not be locked out by a flood of others.
    if (accounts.isBusy()) return tryLater()
    const facts = factsOf(ctx, interaction)
    const canonical = readEmail(email)
    const attempt = { email: canonical, address: facts.address ?? '' }
    const admission = await limits.admit(attempt)
    if (admission.refusal) {
      const { limit, retryAfter } = admission.refusal
      events.rateLimited(facts, limit)
      ctx.status = 429
      ctx.set('retry-after', String(retryAfter))
      const problem = {
        key: 'sign_in.limited',
        values: { minutes: Math.ceil(retryAfter / 60) },
      } as const
      await pages.signIn(ctx, interaction, { email, problem })
      return
    }
    const authentication = await accounts
      .authenticate(canonical, password, admission)
      .catch((error: unknown) => {
        if (!(error instanceof QueueFullError)) throw error
        return 'busy' as const
      })
    if (authentication === 'busy') return tryLater()
    const { account } = authentication
    if (!account) {
      const { of } = authentication
      events.signInFailed({ ...facts, account: of })
      // Beside the answer, which takes as long for an unknown email.
      if (of) failures.add(of, clientInfo(ctx)).catch((error) => ctx.app.emit('error', error, ctx))
      ctx.status = 401
      await pages.signIn(ctx, interaction, { email, problem: 'sign_in.wrong' })
      return
    }
    await limits.succeeded(attempt)
    events.signedIn({ ...facts, account: account.id })
    await leaveOtherAccount(provider, ctx, {
      accountId: account.id,
      endSession: ({ uid, accountId }) => dependencies.endSession(uid, accountId, clientInfo(ctx)),
    })
    await finish(ctx, { login: { accountId: account.id, amr: [...signInMethods.password] } }, false)
  })

  router.post(publicRoutes.consent_submit.path, async (ctx) => {
    const interaction = await currentInteraction(provider, ctx)
    await submittedForm(ctx, interaction, forms)
    const { id } = await pages.reader(ctx, interaction)
    const { scopes, resources } = missingConsent(interaction)
    const grantId = await grantConsent(provider, interaction, id)
    events.consented(
      { ...factsOf(ctx, interaction), account: id },
      { scopes, resources: resources.map(({ indicator }) => indicator) },
    )
    await finish(ctx, { consent: { grantId } }, true)
  })

  router.post(publicRoutes.interaction_abort.path, async (ctx) => {
    const interaction = await currentInteraction(provider, ctx)
    await submittedForm(ctx, interaction, forms)
    events.consentDenied({
      ...factsOf(ctx, interaction),
      account: interaction.session?.accountId,
    })
    await finish(
      ctx,
      { error: 'access_denied', error_description: 'the resource owner denied the request' },
      false,
    )
  })

  return router
}

function factsOf(ctx: RouterContext, { params }: Interaction) {
  return { ...requestFacts(ctx), client: String(params.client_id) }
}
