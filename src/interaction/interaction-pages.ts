import type { RouterContext } from '@koa/router'
import { signInMethods } from '../accounts/acr.ts'
import { canMeet } from '../engine/authentication-context.ts'
import { activeAccount } from '../engine/browser-request.ts'
import type { SessionPolicy } from '../engine/client-session-policy.ts'
import { clientView, openClientView, shownDigest } from '../engine/shown-client.ts'
import { expiredInteraction, type Interaction } from '../http/current-interaction.ts'
import { allowFormsTo } from '../http/form-action.ts'
import { bindingLabels } from '../pages/binding-labels.ts'
import { describeConsent } from '../pages/consent-sections.ts'
import type { Message, MessageKey } from '../pages/messages.ts'
import { redirectLabel } from '../pages/redirect-labels.ts'
import type { Account } from '../storage/account-store.ts'
import { existingGrant, grantedConsent, missingConsent } from './consent.ts'
import type { InteractionDependencies } from './interaction-router.ts'

interface SignInAttempt {
  email: string
  problem: MessageKey | Message
}

export interface InteractionPages {
  signIn(ctx: RouterContext, interaction: Interaction, attempt?: SignInAttempt): Promise<void>
  consent(ctx: RouterContext, interaction: Interaction): Promise<void>
  /** Whether a password can lead to what an interaction is for. */
  takesPassword(interaction: Interaction): Promise<boolean>
  /** Whose session the page is shown in. */
  reader(ctx: RouterContext, interaction: Interaction): Promise<Account>
}

export function createInteractionPages({
  provider,
  accounts,
  views,
  forms,
  passkeys,
  rules,
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

  async function takesPassword(interaction: Interaction) {
    const { clientId, session_policy } = await clientOf(interaction)
    const { params } = interaction
    return (
      rules.takesPassword(clientId) &&
      canMeet(signInMethods.password, params, session_policy as SessionPolicy | undefined)
    )
  }

  return {
    reader,
    takesPassword,

    async signIn(ctx, interaction, attempt) {
      const { login_hint } = interaction.params
      const client = clientView(await clientOf(interaction))
      const email = attempt?.email ?? (typeof login_hint === 'string' ? login_hint : '')
      const problem = attempt ? { problem: attempt.problem } : {}
      allowFormsTo(ctx, redirectUriOf(interaction))
      ctx.type = 'html'
      ctx.body = views.signIn({
        form: formOf(interaction),
        client,
        email,
        passkey: passkeys?.request(ctx, signInPurpose(interaction)),
        password: await takesPassword(interaction),
        ...problem,
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
