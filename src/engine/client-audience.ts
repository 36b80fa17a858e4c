import { errors } from 'oidc-provider'

declare module 'oidc-provider' {
  interface ClientMetadata {
    /** True for a client whose assertions may name an endpoint; an administrator says so. */
    endpoint_audience?: boolean | undefined
  }
}

/**
 * OpenID Connect Core section 9 has client assertions for the token endpoint. By default they are for
 * the issuer alone: see docs/divergences.md.
 *
 * @throws the engine's `invalid_client_metadata`.
 */
export function checkAudienceMetadata({
  endpoint_audience,
}: {
  endpoint_audience?: unknown
}): void {
  if (endpoint_audience === undefined || typeof endpoint_audience === 'boolean') return
  throw new errors.InvalidClientMetadata('endpoint_audience must be a boolean')
}
