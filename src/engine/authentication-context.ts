/**
 * The authentication context `acr` (OpenID Connect Core section 2) of a session that is bound to a
 * key, and the requests that ask for it.
 */
import { errors, type KoaContextWithOIDC } from 'oidc-provider'
import { refusedFor } from './refusal-reason.ts'

/**
 * The session is held by a key, and this request came with a proof of it: a bound cookie that is
 * current, or a connection with Token Binding. It says nothing of how the person was authenticated,
 * and nothing of where the key is kept.
 */
export const boundSessionAcr = 'urn:holdfast:acr:bound-session'

interface AcrRequest {
  readonly values: readonly string[]
  /** Otherwise a wish, which is met if it can be. */
  readonly essential: boolean
}

/** What a request asks for, by `acr_values` or by the `claims` parameter. */
export function acrRequest({ oidc }: KoaContextWithOIDC): AcrRequest {
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

/**
 * Whether a request must not continue without a bound session, and has none.
 *
 * @throws the engine's `unmet_authentication_requirements` for what no session here can be.
 */
export function needsBoundSession(ctx: KoaContextWithOIDC): boolean {
  const { values, essential } = acrRequest(ctx)
  // The engine's own check would ask for a password again and again.
  if (!essential || values.includes(ctx.oidc.acr)) return false
  if (!values.includes(boundSessionAcr))
    throw unmet('none of the requested acr values is known here')
  return true
}

/** OpenID Connect Core Error Code unmet_authentication_requirements 1.0 */
export const unmetAuthenticationRequirements = 'unmet_authentication_requirements'

function unmet(description: string): Error {
  return refusedFor(
    'authentication_context',
    new errors.CustomOIDCProviderError(unmetAuthenticationRequirements, description),
  )
}
