import { type ClientMetadata, errors } from 'oidc-provider'
import { tokenBindingBinding } from '../../bindings/token-binding.ts'
import { deviceGrant } from '../../clients/grant-types.ts'

declare module 'oidc-provider' {
  interface ClientMetadata {
    id_token_token_binding_cnf?: string | undefined
  }
}

/**
 * What this server says of itself (draft-ietf-oauth-token-binding-08 section 4.2, OpenID Connect
 * Token Bound Authentication draft 04 section 5.2).
 */
export const tokenBindingMetadata = {
  as_access_token_token_binding_supported: true,
  as_refresh_token_token_binding_supported: true,
  id_token_token_binding_cnf_values_supported: ['tbh'],
}

/** What clients say: section 4.1, and section 5.1 of the latter. */
export const tokenBindingClientMetadata = [
  ...tokenBindingBinding.flags,
  'id_token_token_binding_cnf',
] as const

/**
 * ID tokens are bound to the key of the browser, and may be whatever the client's own tokens are
 * bound to.
 *
 * @throws the engine's `invalid_client_metadata`.
 */
export function checkTokenBindingMetadata(metadata: ClientMetadata, isConfigured: boolean): void {
  const { id_token_token_binding_cnf: confirmation, binding_method: method } = metadata
  if (confirmation !== undefined && confirmation !== 'tbh') {
    throw new errors.InvalidClientMetadata('id_token_token_binding_cnf must be tbh')
  }
  // The browser has no connection to a device.
  if (confirmation !== undefined && metadata.grant_types?.includes(deviceGrant)) {
    throw new errors.InvalidClientMetadata('id_token_token_binding_cnf is not for the device flow')
  }
  if (!isConfigured && (confirmation !== undefined || method === 'token-binding')) {
    const wanted = confirmation ? 'id_token_token_binding_cnf' : 'binding_method token-binding'
    throw new errors.InvalidClientMetadata(`${wanted} needs HOLDFAST_TOKEN_BINDING`)
  }
}
