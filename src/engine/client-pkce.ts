import { errors, type KoaContextWithOIDC } from 'oidc-provider'

declare module 'oidc-provider' {
  interface ClientMetadata {
    /** False for a client that may leave PKCE out; an administrator says so, by this name. */
    require_pkce?: boolean | undefined
  }
}

interface PkceMetadata {
  require_pkce?: unknown
  token_endpoint_auth_method?: string | undefined
}

/** @throws the engine's `invalid_client_metadata`. */
export function checkPkceMetadata(metadata: PkceMetadata): void {
  const { require_pkce: required, token_endpoint_auth_method: method } = metadata
  if (required === undefined || required === true) return
  if (required !== false) throw new errors.InvalidClientMetadata('require_pkce must be a boolean')
  if (method === 'none') {
    throw new errors.InvalidClientMetadata('require_pkce false is for clients that authenticate')
  }
}

/**
 * Whether an authorization request needs a challenge (RFC 9700 section 2.1.1): always, but for a
 * client that an administrator has excused, whose request then needs a nonce. The token endpoint
 * decides again.
 */
export function needsChallenge({ oidc }: KoaContextWithOIDC): boolean {
  const { require_pkce } = oidc.client as unknown as PkceMetadata
  return require_pkce !== false || !oidc.params?.nonce
}
