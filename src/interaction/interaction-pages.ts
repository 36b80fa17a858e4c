import type { RouterContext } from '@koa/router'
import { signInMethods } from '../accounts/acr.ts'
import { canMeet } from '../engine/authentication-context.ts'
import { activeAccount } from '../engine/browser-request.ts'
import type { SessionPolicy } from '../engine/client-session-policy.ts'
import { namedSession } from '../engine/session-model.ts'
import { clientView, openClientView, shownDigest } from '../engine/shown-client.ts'
import { expiredInteraction, type Interaction } from '../http/current-interaction.ts'
import { allowFormsTo } from '../http/form-action.ts'
import type { FormBody } from '../http/form-body.ts'
import { bindingLabels } from '../pages/binding-labels.ts'
import { describeConsent } from '../pages/consent-sections.ts'
import type { Message, MessageKey } from '../pages/messages.ts'
import { redirectLabel } from '../pages/redirect-labels.ts'
import type { PasskeySignals } from '../passkeys/signals.ts'
import type { Account } from '../storage/account-store.ts'
import { existingGrant, grantedConsent, missingConsent } from './consent.ts'
import type { InteractionDependencies } from './interaction-router.ts'

interface SignInAttempt {
  email: string
  problem: MessageKey | Message
  signals?: PasskeySignals | undefined
}

/** Seconds for which a password counts whose code is still to be typed. */
const codePatienceS = 10 * 60

export interface InteractionPages {
  signIn(ctx: RouterContext, interaction: Interaction, attempt?: SignInAttempt): Promise<void>
  consent(ctx: RouterContext, interaction: Interaction): Promise<void>
  /** Asks for the code of an account whose password was right. */
  code(
    ctx: RouterContext,
    interaction: Interaction,
    account: Pick<Account, 'id'>,
    problem?: MessageKey | Message,
  ): Promise<void>
  /** The account of a page that asks for a code, if it is one of this interaction. */
  accountOfCode(interaction: Interaction, form: FormBody): string | undefined
  /** Whether a password alone leads to what an interaction is for, without a code app. */
  takesPasswordAlone(interaction: Interaction, account: Account): Promise<boolean>
  /** Whether a password, of anyone or of an account, can lead to what an interaction is for. */
  takesPassword(interaction: Interaction, account?: Account): Promise<boolean>
  /** Whose session the page is shown in. */
  reader(ctx: RouterContext, interaction: Interaction): Promise<Account>
}

export function createInteractionPages({
  provider,
  accounts,
  views,
  forms,
  passkeys,
  pageKeys,
  rules,
  challenges,
  usernames,
  signUp,
  resourceLabels = async () => undefined,
  detailsType = async () => undefined,
}: InteractionDependencies): InteractionPages {
  async function clientOf({ params }: Interaction) {
    const client = await provider.Client.find(String(params.client_id))
    if (!client) throw expiredInteraction()
    return client
  }

  const formOf = ({ uid }: Interaction) => ({ uid, token: forms.make(uid) })

  async function reader(ctx: RouterContext, { session }: Interaction) {
    const account = session && (await activeAccount(ctx, session.accountId, accounts))
    if (!account) throw expiredInteraction()
    return account
  }

  async function canMeetBy(
    amr: readonly string[],
    interaction: Interaction,
    account: Account | undefined,
  ) {
    const { clientId, session_policy } = await clientOf(interaction)
    const policy = session_policy as SessionPolicy | undefined
    const ofGroups = rules.groupDemands(account?.groups, clientId)
    return { clientId, isMet: canMeet(amr, interaction.params, policy, ofGroups) }
  }

  async function takesPassword(interaction: Interaction, account?: Account) {
    const { clientId, isMet } = await canMeetBy(signInMethods.passwordAndCode, interaction, account)
    return isMet && rules.takesPassword(clientId)
  }

  async function requestPageKey(ctx: RouterContext, { uid }: Interaction) {
    const { binding } = (pageKeys && (await namedSession(provider, ctx))?.session) ?? {}
    return pageKeys?.request(ctx, uid, binding?.method === 'page-key' ? binding.jkt : undefined)
  }

  const codePurpose = ({ uid }: Interaction, accountId: string) => `code ${uid} ${accountId}`

  return {
    reader,
    takesPassword,

    async takesPasswordAlone(interaction, account) {
      const { clientId, isMet } = await canMeetBy(signInMethods.password, interaction, account)
      return isMet && rules.takesPasswordAlone(clientId)
    },

    async code(ctx, interaction, { id }, problem) {
      allowFormsTo(ctx, redirectUriOf(interaction))
      ctx.type = 'html'
      ctx.body = views.signInCode({
        form: formOf(interaction),
        account: id,
        proof: challenges.make(codePurpose(interaction, id), codePatienceS),
        pageKey: await requestPageKey(ctx, interaction),
        ...(problem && { problem }),
      })
    },

    accountOfCode(interaction, form) {
      const id = form.get('account') ?? ''
      const isShown = challenges.endOf(codePurpose(interaction, id), form.get('proof') ?? '')
      return isShown === undefined ? undefined : id
    },

    async signIn(ctx, interaction, attempt) {
      const { login_hint } = interaction.params
      const client = clientView(await clientOf(interaction))
      const email = attempt?.email ?? (typeof login_hint === 'string' ? login_hint : '')
      const problem = attempt ? { problem: attempt.problem } : {}
      const { signals } = attempt ?? {}
      allowFormsTo(ctx, redirectUriOf(interaction))
      ctx.type = 'html'
      ctx.body = views.signIn({
        form: formOf(interaction),
        client,
        email,
        usernames,
        passkey: passkeys?.request(ctx, signInPurpose(interaction)),
        pageKey: await requestPageKey(ctx, interaction),
        password: await takesPassword(interaction),
        signUp,
        ...problem,
        signals,
      })
    },

    async consent(ctx, interaction) {
      const redirectUri = redirectUriOf(interaction)
      const client = await clientOf(interaction)
      // Another node may know the client as it was a moment ago: then it starts again.
      const { shown } = interaction.prompt.details as { shown?: string }
      if (shown !== undefined && shown !== shownDigest(client, redirectUri)) {
        throw expiredInteraction()
      }
      const { id, email } = await reader(ctx, interaction)
      const grant = await existingGrant(provider, interaction, id)
      const body = views.consent({
        form: formOf(interaction),
        client: clientView(client),
        email,
        binding: bindingLabels(client.binding_method),
        selfRegistered: client.self_registered === true && client.open_client !== 'document',
        open: openClientView(client),
        changed: interaction.prompt.reasons.includes('client_changed'),
        asked: await describeConsent(missingConsent(interaction), resourceLabels, detailsType),
        allowed: await describeConsent(grantedConsent(grant), resourceLabels, detailsType),
        redirect: redirectUri && redirectLabel(redirectUri),
      })
      allowFormsTo(ctx, redirectUri)
      ctx.type = 'html'
      ctx.body = body
    },
  }
}

/** What a passkey that is shown on the sign-in page of an interaction counts for. */
export function signInPurpose({ uid }: Interaction): string {
  return `sign-in ${uid}`
}

/** Undefined where the interaction ends on a page of ours, and another device continues. */
function redirectUriOf({ params, deviceCode }: Interaction): string | undefined {
  return deviceCode === undefined ? String(params.redirect_uri) : undefined
}
