import Router, { type RouterContext } from '@koa/router'
import type { InteractionResults, Provider } from 'oidc-provider'
import type { Accounts } from '../accounts/accounts.ts'
import { signInMethods } from '../accounts/acr.ts'
import type { SignInRules } from '../clients/sign-in-rules.ts'
import { type ClientInfo, clientInfo } from '../http/client-info.ts'
import type { CodeForms } from '../http/code-form.ts'
import {
  currentInteraction,
  type Interaction,
  requireItsSession,
  shownInteraction,
  submittedForm,
} from '../http/current-interaction.ts'
import type { FormBody } from '../http/form-body.ts'
import type { FormTokens } from '../http/form-token.ts'
import { type PageKeyForms, pageKeyResult } from '../http/page-key-form.ts'
import type { PasskeyForms } from '../http/passkey-form.ts'
import type { PasswordForms } from '../http/password-form.ts'
import { publicRoutes } from '../http/routes.ts'
import type { Events } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { FindDetailsType } from '../pages/consent-sections.ts'
import { PageError } from '../pages/page-error.ts'
import type { FindResourceLabels } from '../pages/scope-labels.ts'
import type { Views } from '../pages/views.ts'
import type { Challenges } from '../passkeys/challenge.ts'
import type { Account } from '../storage/account-store.ts'
import { grantConsent, missingConsent } from './consent.ts'
import { createInteractionPages, signInPurpose } from './interaction-pages.ts'
import { leaveOtherAccount } from './leave-other-account.ts'

export interface InteractionDependencies {
  provider: Provider
  accounts: Pick<Accounts, 'findActive'>
  views: Pick<Views, 'signIn' | 'signInCode' | 'consent'>
  events: Pick<Events, 'signedIn' | 'consented' | 'consentDenied'>
  forms: FormTokens
  /** Ends a session of this browser whose key is lost. */
  endSession: (uid: string, accountId: string, by: ClientInfo) => Promise<void>
  /** Undefined where browsers make no passkeys for this server. */
  passkeys: PasskeyForms | undefined
  /** Undefined where pages bind no sessions. */
  pageKeys: PageKeyForms | undefined
  passwords: PasswordForms
  codes: CodeForms
  challenges: Challenges
  rules: SignInRules
  /** Whether a username may be typed in place of an email. */
  usernames: boolean
  /** Whether people may make an account for themselves. */
  signUp: boolean
  /** What a registered resource server and its scopes are called on the consent page. */
  resourceLabels?: FindResourceLabels
  /** The types of authorization details (RFC 9396) that APIs have registered. */
  detailsType?: FindDetailsType
  /** Keeps what is known of a client that a person has allowed. */
  onAllowed: (clientId: string) => Promise<void>
}

const needsPasskey = {
  account: undefined,
  status: 401,
  problem: 'sign_in.needs_passkey',
} as const

/** The pages between /authorize and its resumption: who is it, and may the client have that. */
export function createInteractionRouter(dependencies: InteractionDependencies): Router {
  const { provider, accounts, events, forms, passkeys, passwords, codes } = dependencies
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

  async function signIn(
    ctx: RouterContext,
    { id }: Account,
    { amr, form, uid }: { amr: readonly string[]; form: FormBody; uid: string },
  ) {
    await leaveOtherAccount(provider, ctx, {
      accountId: id,
      endSession: ({ uid, accountId }) => dependencies.endSession(uid, accountId, clientInfo(ctx)),
    })
    const pageKey = await dependencies.pageKeys?.read(ctx, { form, uid, accountId: id })
    const login = { accountId: id, amr: [...amr] }
    await finish(ctx, { login, ...pageKeyResult(pageKey) }, false)
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
    const facts = factsOf(ctx, interaction)
    const typed = (await pages.takesPassword(interaction))
      ? await passwords.authenticate(ctx, { email, password: form.get('password') ?? '', facts })
      : needsPasskey
    if (!typed.account) {
      ctx.status = typed.status
      await pages.signIn(ctx, interaction, { email, problem: typed.problem })
      return
    }
    const { account } = typed
    if (!(await pages.takesPassword(interaction, account))) {
      ctx.status = needsPasskey.status
      await pages.signIn(ctx, interaction, { email, problem: needsPasskey.problem })
      return
    }
    if (account.hasCodeApp) return pages.code(ctx, interaction, account)
    if (!(await pages.takesPasswordAlone(interaction, account))) {
      ctx.status = 401
      await pages.signIn(ctx, interaction, { email, problem: 'sign_in.needs_second_factor' })
      return
    }
    events.signedIn({ ...facts, account: account.id })
    const { uid } = interaction
    await signIn(ctx, account, { amr: signInMethods.password, form, uid })
  })

  router.post(publicRoutes.sign_in_code.path, async (ctx) => {
    const interaction = await currentInteraction(provider, ctx)
    const form = await submittedForm(ctx, interaction, forms)
    const id = pages.accountOfCode(interaction, form)
    const account = id && (await accounts.findActive(id))
    if (!account) throw new PageError('invalid_form', 'Expected a page after a password')
    const facts = { ...factsOf(ctx, interaction), account: account.id }
    const refusal = await codes.refusal(ctx, { account, code: form.get('code') ?? '', facts })
    if (refusal) {
      ctx.status = refusal.status
      await pages.code(ctx, interaction, account, refusal.problem)
      return
    }
    events.signedIn(facts)
    const { uid } = interaction
    await signIn(ctx, account, { amr: signInMethods.passwordAndCode, form, uid })
  })

  router.post(publicRoutes.sign_in_passkey.path, async (ctx) => {
    if (!passkeys) throw new PageError('invalid_form', 'Expected a server with passkeys')
    const interaction = await currentInteraction(provider, ctx)
    const form = await submittedForm(ctx, interaction, forms)
    const facts = factsOf(ctx, interaction)
    const purpose = signInPurpose(interaction)
    const shown = await passkeys.authenticate(ctx, { form, purpose, facts })
    if (!shown.account) {
      ctx.status = shown.status
      await pages.signIn(ctx, interaction, {
        ...{ email: '', problem: shown.problem, signals: shown.signals },
      })
      return
    }
    const { account, passkey } = shown
    events.signedIn({ ...facts, account: account.id }, { passkey: passkey.id })
    const { uid } = interaction
    await signIn(ctx, account, { amr: signInMethods.passkey, form, uid })
  })

  router.post(publicRoutes.consent_submit.path, async (ctx) => {
    const interaction = await currentInteraction(provider, ctx)
    await submittedForm(ctx, interaction, forms)
    const { id } = await pages.reader(ctx, interaction)
    const { scopes, resources, details } = missingConsent(interaction)
    const consent = await grantConsent(provider, interaction, id)
    await dependencies.onAllowed(String(interaction.params.client_id))
    events.consented(
      { ...factsOf(ctx, interaction), account: id },
      {
        scopes,
        resources: resources.map(({ indicator }) => indicator),
        detailsTypes: details.map(({ type }) => type),
      },
    )
    await finish(ctx, { consent }, true)
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
