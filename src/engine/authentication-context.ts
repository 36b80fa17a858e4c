/**
 * The authentication context `acr` (OpenID Connect Core section 2) of a request: what it asks for,
 * and whether the session meets that. The contexts themselves are in accounts/acr.ts.
 */
import type Provider from 'oidc-provider'
import { errors, type KoaContextWithOIDC } from 'oidc-provider'
import { acrOf, type Missing, missingFor, type SignIn } from '../accounts/acr.ts'
import type { GroupDemands } from '../clients/sign-in-rules.ts'
import { type SessionPolicy, sessionPolicyOf } from './client-session-policy.ts'
import { refusedFor } from './refusal-reason.ts'
import { heldBy } from './session-model.ts'

interface AcrRequest {
  readonly values: readonly string[]
  /** Otherwise a wish, which is met if it can be. */
  readonly essential: boolean
}

/** What a request asks for, by `acr_values` or by the `claims` parameter. */
export function acrRequest({ oidc }: Oidc): AcrRequest {
  return readAcrRequest(oidc.claims, oidc.params?.acr_values)
}

function readAcrRequest(claims: unknown, acrValues: unknown): AcrRequest {
  const idToken = (claims as { id_token?: { acr?: unknown } | null } | undefined)?.id_token
  const asked = (idToken?.acr ?? {}) as Record<'value' | 'values' | 'essential', unknown>
  const wished = typeof acrValues === 'string' ? acrValues : ''
  const { value, values = [], essential } = asked
  const named = [...(Array.isArray(values) ? values : [undefined]), ...(value ? [value] : [])]
  if (!named.every((name) => typeof name === 'string')) {
    throw refusedFor(
      'request_json',
      new errors.InvalidRequest('claims.id_token.acr must be a string'),
    )
  }
  return {
    values: [...new Set([...wished.split(' '), ...named])].filter(Boolean),
    essential: essential === true && named.length > 0,
  }
}

/**
 * The values of which a sign-in must meet one of each list: those that a request makes a must, the
 * one that its client was registered with, and those that the groups of the person need.
 */
function demandsOf(
  { values, essential }: AcrRequest,
  policy: SessionPolicy,
  ofGroups: readonly string[],
): readonly string[][] {
  const registered = policy.required_acr === undefined ? [] : [[policy.required_acr]]
  return [...(essential ? [[...values]] : []), ...registered, ...ofGroups.map((acr) => [acr])]
}

/** Whether a way of signing in can meet what an interaction is for, the session bound or not. */
export function canMeet(
  amr: readonly string[],
  { claims, acr_values }: { readonly [parameter: string]: unknown },
  policy: SessionPolicy | undefined,
  ofGroups: readonly string[],
): boolean {
  // It was read as JSON when the request came.
  const read: unknown = typeof claims === 'string' ? JSON.parse(claims) : undefined
  const demands = demandsOf(readAcrRequest(read, acr_values), policy ?? {}, ofGroups)
  return demands.every((acrs) => missingFor({ amr, isBound: true }, acrs) === undefined)
}

/** As `createFindAccount` makes it. */
interface FoundAccount {
  readonly groups?: readonly string[]
}

type Oidc = Pick<KoaContextWithOIDC, 'oidc'>

const signInOf = ({ oidc: { session } }: Oidc): SignIn => ({
  amr: session?.amr ?? [],
  ...heldBy(session),
})

/**
 * What a request lacks for the `acr` that it must have (OpenID Connect Core section 5.5.1.1): the
 * proof of the session's key, or another sign-in. Undefined where it may continue.
 *
 * @throws the engine's `unmet_authentication_requirements` for what no session here can be.
 */
export function missingAcr(
  ctx: KoaContextWithOIDC,
  groupDemands: GroupDemands,
): Missing | undefined {
  const signIn = signInOf(ctx)
  const { account, client } = ctx.oidc as { account?: FoundAccount; client?: { clientId: string } }
  const ofGroups = groupDemands(account?.groups, client?.clientId)
  const demands = demandsOf(acrRequest(ctx), sessionPolicyOf(ctx), ofGroups)
  const missing = demands.map((acrs) => missingFor(signIn, acrs))
  // The engine's own check would ask for a password again and again.
  if (missing.includes('unknown')) throw unmetAcr('none of the requested acr values is known here')
  if (missing.includes('sign-in')) return 'sign-in'
  if (missing.includes('bound session')) return 'bound session'
  return missing.includes('page key') ? 'page key' : undefined
}

/** Lets the engine put the `acr` of this request into its codes and ID tokens. */
export function nameAcr(engine: Provider): void {
  Object.defineProperty(engine.OIDCContext.prototype, 'acr', {
    configurable: true,
    get(this: KoaContextWithOIDC['oidc']) {
      const request = { oidc: this }
      return acrOf(signInOf(request), acrRequest(request).values)
    },
  })
}

/** OpenID Connect Core Error Code unmet_authentication_requirements 1.0 */
export const unmetAuthenticationRequirements = 'unmet_authentication_requirements'

/** The sign-in is over, and the session is not what the application must have. */
export function unmetAcr(description: string): Error {
  return refusedFor(
    'authentication_context',
    new errors.CustomOIDCProviderError(unmetAuthenticationRequirements, description),
  )
}
