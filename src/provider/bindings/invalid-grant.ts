import { errors } from 'oidc-provider'

/** `invalid_grant` with a description for the client; the engine's own tells it nothing. */
export function invalidGrant(description: string): errors.InvalidGrant {
  const error = new errors.InvalidGrant(description)
  error.error_description = description
  return error
}
