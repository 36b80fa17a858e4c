import { errors, type KoaContextWithOIDC } from 'oidc-provider'

declare module 'oidc-provider' {
  interface ClientMetadata {
    /** False for a client that may leave PKCE out; an administrator says so, by this name. */
    require_pkce?: boolean | undefined
    /** False for such a client that may leave the nonce out as well. */
    require_nonce?: boolean | undefined
  }
}

interface PkceMetadata {
  require_pkce?: unknown
  require_nonce?: unknown
  token_endpoint_auth_method?: string | undefined
}

/** @throws the engine's `invalid_client_metadata`. */
export function checkPkceMetadata(metadata: PkceMetadata): void {
  const { require_pkce, require_nonce, token_endpoint_auth_method: method } = metadata
  for (const [name, value] of Object.entries({ require_pkce, require_nonce })) {
    if (value !== undefined && typeof value !== 'boolean') {
      throw new errors.InvalidClientMetadata(`${name} must be a boolean`)
    }
  }
  if (require_pkce === false && method === 'none') {
    throw new errors.InvalidClientMetadata('require_pkce false is for clients that authenticate')
  }
  if (require_nonce === false && require_pkce !== false) {
    throw new errors.InvalidClientMetadata('require_nonce false needs require_pkce false')
  }
}

/**
 * Whether an authorization request needs a challenge (RFC 9700 section 2.1.1): always, but for a
 * client that an administrator has excused, whose request then needs a nonce, unless the client is
 * excused from that as well. The token endpoint decides again.
 */
export function needsChallenge({ oidc }: KoaContextWithOIDC): boolean {
  const { require_pkce, require_nonce } = oidc.client as unknown as PkceMetadata
  return require_pkce !== false || (require_nonce !== false && !oidc.params?.nonce)
}
