import type { Provider } from 'oidc-provider'
import { PageError } from '../http/page-error.ts'
import type { Interaction } from './current-interaction.ts'
import { claimWords, scopeWords } from './scope-words.ts'

/** What a client asks for and has not been given, as oidc-provider's consent prompt found it. */
export interface MissingConsent {
  scopes: string[]
  claims: string[]
  resources: { indicator: string; scopes: string[] }[]
}

export interface ConsentLine {
  words: string
  /** The name on the wire, where our words do not say what it is. */
  code?: string
}

export interface ConsentSection {
  /** The resource server that understands the scopes; absent for the account itself. */
  resource?: string
  lines: ConsentLine[]
}

const REASONS = new Set([
  'consent_prompt',
  'native_client_prompt',
  'op_scopes_missing',
  'op_claims_missing',
  'rs_scopes_missing',
])

export function missingConsent({ prompt }: Pick<Interaction, 'prompt'>): MissingConsent {
  const unknown = prompt.reasons.find((reason) => !REASONS.has(reason))
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
  }
}

export function describeConsent({ scopes, claims, resources }: MissingConsent): ConsentSection[] {
  const account = [
    ...scopes.map((scope) => line(scope, scopeWords(scope), 'Use')),
    ...claims.map((claim) => line(claim, claimWords(claim), 'See')),
  ]
  const told = new Set<string>()
  const lines = account.filter(({ words, code }) => {
    const key = `${words}\0${code ?? ''}`
    return !told.has(key) && told.add(key)
  })
  return [
    ...(lines.length ? [{ lines }] : []),
    ...resources.map(({ indicator, scopes }) => ({
      resource: indicator,
      lines: scopes.map((scope) => line(scope, undefined, 'Use')),
    })),
  ]
}

function line(code: string, words: string | undefined, verb: string): ConsentLine {
  return words === undefined ? { words: verb, code } : { words }
}

/** Grants exactly what was missing, on top of what was granted before, and returns the grant's id. */
export async function grantConsent(
  provider: Provider,
  interaction: Interaction,
  accountId: string,
): Promise<string> {
  const clientId = String(interaction.params.client_id)
  const grant =
    (await ownGrant(provider, interaction.grantId, accountId, clientId)) ??
    new provider.Grant({ accountId, clientId })
  const { scopes, claims, resources } = missingConsent(interaction)
  if (scopes.length) grant.addOIDCScope(scopes.join(' '))
  if (claims.length) grant.addOIDCClaims(claims)
  for (const { indicator, scopes } of resources) grant.addResourceScope(indicator, scopes.join(' '))
  return grant.save()
}

async function ownGrant(
  provider: Provider,
  grantId: string | undefined,
  accountId: string,
  clientId: string,
) {
  const grant = grantId === undefined ? undefined : await provider.Grant.find(grantId)
  return grant?.accountId === accountId && grant.clientId === clientId ? grant : undefined
}
