import type { ClientMetadata } from 'oidc-provider'

/**
 * The redirect URIs of metadata that the engine has not checked yet: none where they are no list,
 * which it refuses later. It does NOT check what a URI is.
 */
export function redirectUrisOf({
  redirect_uris: uris,
}: Pick<ClientMetadata, 'redirect_uris'>): readonly string[] {
  return Array.isArray(uris) ? uris.filter((uri) => typeof uri === 'string') : []
}
