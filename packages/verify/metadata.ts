/** Protected resource metadata (RFC 9728). */
import type { BindingMethod } from './confirmation.ts'
import type { TokenLocation } from './credentials.ts'
import { checkNames, namesOf } from './lib/check.ts'

/** What a resource may say about itself beyond what its verifier knows (RFC 9728 section 2). */
export type MetadataOptions = Readonly<{
  scopes_supported?: readonly string[]
  resource_name?: string
  resource_documentation?: string
  resource_policy_uri?: string
  resource_tos_uri?: string
}>

const metadataOptions = namesOf<MetadataOptions>({
  scopes_supported: true,
  resource_name: true,
  resource_documentation: true,
  resource_policy_uri: true,
  resource_tos_uri: true,
})

/** Nothing that the verifier itself says can be said differently. */
export function checkMetadataOptions(options: MetadataOptions): void {
  checkNames('metadata', options, metadataOptions)
}

/** The document, ready for `JSON.stringify`. */
export type ProtectedResourceMetadata = Readonly<Record<string, unknown>>

/**
 * The URL of a resource's metadata: the well-known path goes between host and path
 * (RFC 9728 section 3.1), a query stays behind.
 *
 * @example
 * ```ts
 * metadataUrl('https://api.example/notes')
 * // 'https://api.example/.well-known/oauth-protected-resource/notes'
 * ```
 */
export function metadataUrl(resource: string): string {
  const { origin, pathname, search } = new URL(resource)
  // "any terminating slash following the host component MUST be removed"
  const path = pathname === '/' ? '' : pathname
  return `${origin}/.well-known/oauth-protected-resource${path}${search}`
}

/** Puts the document together; it says only what the verifier really enforces. */
export function protectedResourceMetadata(
  facts: Readonly<{
    resource: string
    issuers: readonly string[]
    methods: readonly BindingMethod[]
    allowBearer: boolean
    locations: readonly TokenLocation[]
    dpopAlgorithms: readonly string[]
  }>,
  options: MetadataOptions = {},
): ProtectedResourceMetadata {
  const dpop = facts.methods.includes('dpop')
  const onlyDPoP = dpop && facts.methods.length === 1 && !facts.allowBearer
  return Object.freeze({
    resource: facts.resource,
    authorization_servers: facts.issuers,
    bearer_methods_supported: facts.locations,
    ...(dpop && { dpop_signing_alg_values_supported: facts.dpopAlgorithms }),
    dpop_bound_access_tokens_required: onlyDPoP,
    tls_client_certificate_bound_access_tokens: facts.methods.includes('mtls'),
    ...options,
  })
}
