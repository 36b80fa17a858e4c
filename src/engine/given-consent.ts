/**
 * A consent from the moment in which it is given until the code is made that it leads to. A new grant
 * travels with the sealed state of its interaction, and is written by the statement that uses the
 * interaction up: the consent, the code and the session come together or not at all.
 */
import { randomBytes } from 'node:crypto'
import type { InteractionResults, KoaContextWithOIDC, Provider } from 'oidc-provider'

type Grant = InstanceType<Provider['Grant']>
type Consent = NonNullable<InteractionResults['consent']>

/** What the interaction keeps of a grant that is not stored: its times begin when it is. */
export async function giveConsent(grant: Grant): Promise<Consent> {
  const { payload } = await (grant as GrantWithPayload).getValueAndPayload()
  const { iat: _, exp: __, ...given } = payload
  return { grantId: randomBytes(32).toString('base64url'), given }
}

interface GrantWithPayload extends Grant {
  getValueAndPayload(): Promise<{ payload: Record<string, unknown> }>
}

/**
 * The grant that was given in the interaction that a request resumes, to be written with the session;
 * undefined where the interaction was used before. What was withdrawn since then is not written again.
 */
export async function takeConsent({ oidc }: KoaContextWithOIDC): Promise<Grant | undefined> {
  const { grantId, given } = (oidc.result?.consent ?? {}) as Consent & { given?: object }
  const interaction = oidc.entities.Interaction as { consumed?: number | undefined } | undefined
  if (!given || !interaction || interaction.consumed !== undefined) return undefined
  const grant: Grant = Reflect.construct(oidc.provider.Grant, [{ ...given, jti: grantId }])
  await grant.save()
  return grant
}
