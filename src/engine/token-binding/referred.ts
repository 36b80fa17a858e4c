import { errors, type KoaContextWithOIDC } from 'oidc-provider'
import { isReferredChallenge } from '../../bindings/token-binding-challenge.ts'
import type { ProvenTokenBinding } from '../../http/edge.ts'
import type { ModelAdditions } from '../model-additions.ts'
import { refusedFor } from '../refusal-reason.ts'

declare module 'oidc-provider' {
  interface Interaction {
    referredTbh?: string | undefined
  }
  interface AuthorizationCode {
    referredTbh?: string | undefined
  }
}

/**
 * Keeps the key that the browser has for the relying party from the first authorization request to
 * the ID tokens (OpenID Connect Token Bound Authentication draft 04 section 3). A browser sends the
 * referred binding once, with the request that the relying party's redirect leads to (RFC 8473
 * section 5.3): on the way back from login and consent it has none.
 */
export function keepReferredTokenBinding(
  tokenBindingOf: ProvenTokenBinding,
): Pick<ModelAdditions, 'keepInInteraction' | 'keepInCode' | 'confirmIdToken'> {
  const keep = (ctx: KoaContextWithOIDC) => ({ referredTbh: referredTbh(ctx, tokenBindingOf) })
  return {
    keepInInteraction: keep,
    keepInCode: keep,
    // Beside the code; others are made by the token endpoint.
    confirmIdToken(ctx): Readonly<Record<string, string>> {
      if (!wantsBoundIdTokens(ctx)) return {}
      const tbh = ctx.oidc.entities.AuthorizationCode?.referredTbh
      if (tbh === undefined) {
        const error = new errors.InvalidRequest('no referred Token Binding')
        throw refusedFor('token_binding_missing', error)
      }
      return { tbh }
    },
  }
}

/**
 * Undefined where nobody needs it.
 *
 * @throws the engine's `invalid_request` where someone does and it did not come: a code or an ID
 *   token that should have been bound is not issued unbound.
 */
function referredTbh(
  ctx: KoaContextWithOIDC,
  tokenBindingOf: ProvenTokenBinding,
): string | undefined {
  const { entities, params } = ctx.oidc
  const forCode = isReferredChallenge(params?.code_challenge)
  if (!forCode && !wantsBoundIdTokens(ctx)) return undefined
  const referred = tokenBindingOf(ctx)?.referred
  const fromRequest = referred === 'unsupported' ? undefined : referred?.tbh
  const { Interaction: resumed } = entities
  // The request that resumes it is another: what it refers to is not asked.
  const tbh = resumed ? resumed.referredTbh : fromRequest
  if (tbh === undefined) {
    throw refusedFor(
      'token_binding_missing',
      new errors.InvalidRequest(
        `${forCode ? 'referred_tb' : 'id_token_token_binding_cnf'} needs a referred Token Binding`,
      ),
    )
  }
  return tbh
}

/** Section 5.1: the metadata is there, or the client does not know what to do with `cnf`. */
function wantsBoundIdTokens(ctx: KoaContextWithOIDC): boolean {
  const { id_token_token_binding_cnf } = ctx.oidc.client as unknown as Record<string, unknown>
  return id_token_token_binding_cnf !== undefined
}
