import type { InteractionResults, Provider } from 'oidc-provider'
import { requestedDetails } from '../engine/authorization-details.ts'
import { giveConsent } from '../engine/given-consent.ts'
import { rememberShown } from '../engine/shown-client.ts'
import { expiredInteraction, type Interaction } from '../http/current-interaction.ts'
import type { Consent } from '../pages/consent-sections.ts'
import { PageError } from '../pages/page-error.ts'

type Grant = InstanceType<Provider['Grant']>

const answeredReasons = new Set([
  'consent_prompt',
  'native_client_prompt',
  'op_scopes_missing',
  'op_claims_missing',
  'rs_scopes_missing',
  'client_changed',
  'authorization_details',
])

/** What the client asks for and has not been granted, as oidc-provider's consent prompt found it. */
export function missingConsent({
  prompt,
  params,
}: Pick<Interaction, 'prompt'> & Partial<Pick<Interaction, 'params'>>): Consent {
  if (prompt.name !== 'consent') throw expiredInteraction()
  const unknown = prompt.reasons.find((reason) => !answeredReasons.has(reason))
  // Consent to what the page cannot put into words is no consent.
  if (unknown) throw new PageError('unsupported_prompt', `No page for the reason ${unknown}`)
  const details = prompt.details as {
    missingOIDCScope?: string[]
    missingOIDCClaims?: string[]
    missingResourceScopes?: Record<string, string[]>
  }
  return {
    scopes: details.missingOIDCScope ?? [],
    claims: details.missingOIDCClaims ?? [],
    resources: Object.entries(details.missingResourceScopes ?? {}).map(([indicator, scopes]) => ({
      indicator,
      scopes,
    })),
    details: requestedDetails(params) ?? [],
  }
}

/** What a grant holds already. */
export function grantedConsent(grant: Grant | undefined): Consent {
  const split = (scope: string | undefined) => (scope ? scope.split(' ') : [])
  return {
    scopes: split(grant?.getOIDCScope()),
    claims: grant?.getOIDCClaims() ?? [],
    resources: Object.keys(grant?.resources ?? {}).map((indicator) => ({
      indicator,
      scopes: split(grant?.getResourceScope(indicator)),
    })),
    // What was allowed once is asked for again, so that it is in the other list.
    details: [],
  }
}

/**
 * The grant that this account gave this client before, if the interaction knows of one: by the
 * session, or because the answer to this very consent was lost.
 */
export async function existingGrant(
  provider: Provider,
  { grantId: known, params, result }: Interaction,
  accountId: string,
): Promise<Grant | undefined> {
  const grantId = known ?? result?.consent?.grantId
  const grant = grantId === undefined ? undefined : await provider.Grant.find(grantId)
  return grant?.accountId === accountId && grant.clientId === params.client_id ? grant : undefined
}

/**
 * Grants exactly what was missing, on top of what was granted before. A new grant is not stored yet:
 * it is a part of the answer. Only for another device it is, which may ask for its tokens before the
 * session is written.
 */
export async function grantConsent(
  provider: Provider,
  interaction: Interaction,
  accountId: string,
): Promise<NonNullable<InteractionResults['consent']>> {
  const { scopes, claims, resources, details } = missingConsent(interaction)
  const existing = await existingGrant(provider, interaction, accountId)
  const clientId = String(interaction.params.client_id)
  const grant = existing ?? new provider.Grant({ accountId, clientId })
  if (scopes.length) grant.addOIDCScope(scopes.join(' '))
  if (claims.length) grant.addOIDCClaims([...claims])
  for (const { indicator, scopes } of resources) grant.addResourceScope(indicator, scopes.join(' '))
  // Earlier ones are not kept: each consent is for what its page has shown.
  if (details.length) grant.rar = [...details]
  const { shown } = interaction.prompt.details as { shown?: string }
  if (shown !== undefined) rememberShown(grant, shown)
  const isStored = existing !== undefined || interaction.deviceCode !== undefined
  return isStored ? { grantId: await grant.save() } : giveConsent(grant)
}
