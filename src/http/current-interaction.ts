import type { RouterContext } from '@koa/router'
import { errors, type Provider } from 'oidc-provider'
import { PageError } from '../pages/page-error.ts'
import { type FormBody, readForm } from './form-body.ts'
import type { FormTokens } from './form-token.ts'

export type Interaction = Awaited<ReturnType<Provider['interactionDetails']>>

/**
 * The interaction of this address and of this browser's cookie. Anything else is out of date:
 * finished or expired, opened elsewhere, or begun before the person switched accounts in another
 * tab, which oidc-provider tells from the session that the interaction remembers.
 */
export async function currentInteraction(
  provider: Provider,
  ctx: RouterContext,
): Promise<Interaction> {
  const interaction = await shownInteraction(provider, ctx)
  await requireItsSession(provider, ctx, interaction)
  return interaction
}

/** That the session which an interaction remembers is that of this browser, and is alive. */
export async function requireItsSession(
  provider: Provider,
  ctx: RouterContext,
  { session }: Interaction,
): Promise<void> {
  // The engine looks the session up by what the interaction remembers, not by this browser's cookie.
  const { uid, accountId } = await provider.Session.get(ctx)
  if (session && (session.uid !== uid || session.accountId !== accountId)) {
    throw expiredInteraction()
  }
}

/**
 * The interaction of this address and of this browser's cookie, for a page that shows nothing of a
 * session: whether that is alive is not checked.
 */
export async function shownInteraction(
  provider: Provider,
  ctx: RouterContext,
): Promise<Interaction> {
  const interaction = await found(provider, ctx)
  if (interaction.uid !== ctx.params.uid) throw expiredInteraction()
  return interaction
}

async function found(provider: Provider, ctx: RouterContext): Promise<Interaction> {
  try {
    return await provider.interactionDetails(ctx.req, ctx.res)
  } catch (cause) {
    throw cause instanceof errors.SessionNotFound ? expiredInteraction({ cause }) : cause
  }
}

export function expiredInteraction(options?: ErrorOptions): PageError {
  return new PageError(
    'expired_interaction',
    'Expected the interaction of this address and cookie',
    options,
  )
}

export async function submittedForm(
  ctx: RouterContext,
  { uid }: Interaction,
  forms: Pick<FormTokens, 'accepts'>,
): Promise<FormBody> {
  const form = await readForm(ctx)
  if (!forms.accepts(uid, form.get('token') ?? '')) {
    throw new PageError('invalid_form', 'Expected the token of this interaction')
  }
  return form
}
