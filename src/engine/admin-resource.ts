import { errors } from 'oidc-provider'
import { bindingMethodOf } from '../clients/binding-method.ts'

declare module 'oidc-provider' {
  interface ClientMetadata {
    /** What a client may do at the admin API. */
    administration?: string | undefined
  }
}

const scopesOf: Readonly<Record<string, readonly string[]>> = {
  read: ['admin:read'],
  write: ['admin:read', 'admin:write'],
}

/** What clients that administer may be registered for. */
export const administrationLevels = Object.keys(scopesOf)

/** The identifier of the admin API as a resource (RFC 8707), and its address. */
export function adminResource(issuer: string): string {
  return `${issuer}/admin`
}

/** The scopes that a client may have there; undefined for one that does not administer. */
export function adminScopesOf(administration: string | undefined): readonly string[] | undefined {
  return administration === undefined ? undefined : scopesOf[administration]
}

interface AdministrationMetadata {
  administration?: string | undefined
  binding_method?: string | undefined
  grant_types?: readonly string[] | undefined
  token_endpoint_auth_method?: string | undefined
}

/** @throws the engine's `invalid_client_metadata` (RFC 7591 section 3.2.2). */
export function checkAdministration(metadata: AdministrationMetadata): void {
  const { administration, grant_types, token_endpoint_auth_method } = metadata
  if (administration === undefined) return
  if (!administrationLevels.includes(administration)) {
    throw invalid(`must be one of ${administrationLevels.join(', ')}`)
  }
  // A person who signs in to such a client would administer without being asked who they are.
  if (grant_types?.length !== 1 || grant_types[0] !== 'client_credentials') {
    throw invalid('is for clients whose only grant is client_credentials')
  }
  if (token_endpoint_auth_method === 'none') throw invalid('is for clients that authenticate')
  if (bindingMethodOf(metadata) !== 'dpop') throw invalid('is for clients with binding_method dpop')
}

function invalid(what: string): errors.InvalidClientMetadata {
  return new errors.InvalidClientMetadata(`administration ${what}`)
}
