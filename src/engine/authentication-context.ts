/**
 * The authentication context `acr` (OpenID Connect Core section 2) of a request: what it asks for,
 * and whether the session meets that. The contexts themselves are in accounts/acr.ts.
 */
import type Provider from 'oidc-provider'
import { errors, type KoaContextWithOIDC } from 'oidc-provider'
import { acrOf, boundSessionAcr, knownAcrs, meetsAcr, type SignIn } from '../accounts/acr.ts'
import { refusedFor } from './refusal-reason.ts'
import { isHeld } from './session-model.ts'

interface AcrRequest {
  readonly values: readonly string[]
  /** Otherwise a wish, which is met if it can be. */
  readonly essential: boolean
}

/** What a request asks for, by `acr_values` or by the `claims` parameter. */
export function acrRequest({ oidc }: Oidc): AcrRequest {
  const idToken = (oidc.claims as { id_token?: { acr?: unknown } | null } | undefined)?.id_token
  const asked = (idToken?.acr ?? {}) as Record<'value' | 'values' | 'essential', unknown>
  const wished = typeof oidc.params?.acr_values === 'string' ? oidc.params.acr_values : ''
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

type Oidc = Pick<KoaContextWithOIDC, 'oidc'>

const signInOf = ({ oidc: { session } }: Oidc): SignIn => ({
  amr: session?.amr ?? [],
  isBound: session !== undefined && isHeld(session),
})

/**
 * What a request lacks for the `acr` that it must have (OpenID Connect Core section 5.5.1.1): the
 * proof of a bound session, or another sign-in. Undefined where it may continue.
 *
 * @throws the engine's `unmet_authentication_requirements` for what no session here can be.
 */
export function missingAcr(ctx: KoaContextWithOIDC): 'bound session' | 'sign-in' | undefined {
  const { values, essential } = acrRequest(ctx)
  const signIn = signInOf(ctx)
  // The engine's own check would ask for a password again and again.
  if (!essential || values.some((acr) => meetsAcr(signIn, acr))) return undefined
  if (values.includes(boundSessionAcr)) return 'bound session'
  if (values.some((acr) => knownAcrs.includes(acr))) return 'sign-in'
  throw unmetAcr('none of the requested acr values is known here')
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
