import { type ClientMetadata, errors, type KoaContextWithOIDC } from 'oidc-provider'

/**
 * How the tokens of a client are bound to its key. `bearer` means not at all, and exists only for
 * clients that ask for it by name.
 */
export const bindingMethods = ['dpop', 'bearer'] as const

export type BindingMethod = (typeof bindingMethods)[number]

declare module 'oidc-provider' {
  interface ClientMetadata {
    binding_method?: string | undefined
  }
}

type BindingMetadata = Pick<
  ClientMetadata,
  'binding_method' | 'dpop_bound_access_tokens' | 'tls_client_certificate_bound_access_tokens'
>

/**
 * The binding method that client metadata asks for: `binding_method`, else the RFC flag
 * `dpop_bound_access_tokens` (RFC 9449 section 5.2), else DPoP.
 *
 * @throws the engine's `invalid_client_metadata` (RFC 7591 section 3.2.2) for unknown methods and
 *   for metadata that contradicts itself.
 */
export function bindingMethodOf(metadata: BindingMetadata): BindingMethod {
  const { binding_method: named = 'dpop', dpop_bound_access_tokens: dpopBound } = metadata
  const method = bindingMethods.find((known) => known === named)
  if (!method) {
    throw new errors.InvalidClientMetadata(
      `binding_method must be one of ${bindingMethods.join(', ')}`,
    )
  }
  if (metadata.tls_client_certificate_bound_access_tokens) {
    throw new errors.InvalidClientMetadata(
      'tls_client_certificate_bound_access_tokens is not supported by this server',
    )
  }
  // False is the flag's default and says nothing: bearer tokens must be asked for by name.
  if (method === 'bearer' && dpopBound) {
    throw new errors.InvalidClientMetadata(
      'dpop_bound_access_tokens contradicts binding_method bearer',
    )
  }
  return method
}

/** Client metadata with the binding method by name, and the RFC flag that follows from it. */
export function withBindingMethod<T extends BindingMetadata>(metadata: T): T {
  const method = bindingMethodOf(metadata)
  return { ...metadata, binding_method: method, dpop_bound_access_tokens: method === 'dpop' }
}

/**
 * Refuses a token request that lacks the proof its client's binding method asks for, before a code
 * or refresh token is looked up, let alone consumed. What the proof says is checked by the engine
 * after this, and before it looks anything up.
 *
 * @throws the engine's `invalid_grant`.
 */
export function requireProof(ctx: KoaContextWithOIDC): void {
  if (clientBindingMethod(ctx) === 'dpop' && !ctx.get('DPoP')) {
    throw invalidGrant('the tokens of this client are bound by DPoP: a DPoP proof is required')
  }
}

/** The binding method of the client that makes this request. */
export function clientBindingMethod(ctx: KoaContextWithOIDC): BindingMethod {
  // The engine leaves the names of metadata that it does not know as they were registered.
  const { binding_method } = ctx.oidc.client as unknown as { binding_method: string }
  return bindingMethodOf({ binding_method })
}

/** `invalid_grant` with a description for the client; the engine's own tells it nothing. */
export function invalidGrant(description: string): errors.InvalidGrant {
  const error = new errors.InvalidGrant(description)
  error.error_description = description
  return error
}
