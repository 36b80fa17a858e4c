/**
 * Profiles: what belongs together, for one client or for all clients of a server. `fapi2` is the FAPI
 * 2.0 Security Profile; numbers of sections are of its final version.
 */
import { type ClientMetadata, errors } from 'oidc-provider'
import { isOfThisMachine } from '../net/this-machine.ts'
import { bindingMethodOf } from './binding-method.ts'
import { ownClients } from './client-id.ts'
import { redirectUrisOf } from './redirect-uris.ts'

export const profiles = ['fapi2'] as const

export type Profile = (typeof profiles)[number]

/** What becomes of a refresh token that was used: another one takes its place, or it stays. */
export const refreshPolicies = ['rotate', 'keep'] as const

export type RefreshPolicy = (typeof refreshPolicies)[number]

declare module 'oidc-provider' {
  interface ClientMetadata {
    profile?: string | undefined
    refresh_tokens?: string | undefined
  }
}

/** Section 5.4.1. `Ed25519` is the name that RFC 9864 gives to EdDSA with that curve. */
const fapi2Algorithms = ['PS256', 'ES256', 'EdDSA', 'Ed25519']

/** How clients of FAPI 2.0 authenticate (section 5.3.2.1). */
export const fapi2Methods: readonly string[] = [
  'private_key_jwt',
  'tls_client_auth',
  'self_signed_tls_client_auth',
]

/** Algorithms, without those that a profile does not allow. */
export function allowedAlgorithms<Name extends string>(
  profile: Profile | undefined,
  algorithms: readonly Name[],
): Name[] {
  return algorithms.filter((name) => profile === undefined || fapi2Algorithms.includes(name))
}

/**
 * The profile that a client is held to.
 *
 * @throws the engine's `invalid_client_metadata` for a profile that is not known.
 */
export function profileOf(
  { client_id, profile }: Pick<ClientMetadata, 'client_id' | 'profile'>,
  ofServer?: Profile,
): Profile | undefined {
  // A client of this server that gets no tokens.
  if (ownClients.includes(client_id)) return undefined
  if (profile === undefined) return ofServer
  const known = profiles.find((name) => name === profile)
  if (known) return known
  throw new errors.InvalidClientMetadata(`profile must be one of ${profiles.join(', ')}`)
}

/** The refresh policy of a client: `keep` for FAPI 2.0 (section 5.3.2.1), else `rotate`. */
export function refreshPolicyOf(metadata: ClientMetadata, ofServer?: Profile): RefreshPolicy {
  const { refresh_tokens: named } = metadata
  const profile = profileOf(metadata, ofServer)
  const policy = refreshPolicies.find((known) => known === (named ?? (profile ? 'keep' : 'rotate')))
  if (!policy) {
    throw new errors.InvalidClientMetadata(
      `refresh_tokens must be one of ${refreshPolicies.join(', ')}`,
    )
  }
  if (named === 'keep' && metadata.token_endpoint_auth_method === 'none') {
    throw new errors.InvalidClientMetadata(
      'refresh_tokens must be rotate for a public client (RFC 9700 section 4.14.2)',
    )
  }
  return policy
}

/**
 * Client metadata with what its profile says by default.
 *
 * @throws the engine's `invalid_client_metadata` for metadata that contradicts it, with the clause.
 */
export function withProfile<T extends ClientMetadata>(metadata: T, ofServer?: Profile): T {
  const policy = refreshPolicyOf(metadata, ofServer)
  if (profileOf(metadata, ofServer) === undefined) return metadata
  const problem =
    authenticationProblem(metadata) ??
    flowProblem(metadata) ??
    algorithmProblem(metadata) ??
    (policy === 'rotate' ? 'refresh_tokens must be keep (section 5.3.2.1 number 9)' : undefined)
  if (problem) throw new errors.InvalidClientMetadata(`FAPI 2.0: ${problem}`)
  return {
    ...metadata,
    id_token_signed_response_alg: metadata.id_token_signed_response_alg ?? 'ES256',
    require_pushed_authorization_requests: true,
  }
}

function authenticationProblem(metadata: ClientMetadata): string | undefined {
  const { token_endpoint_auth_method: method = 'client_secret_basic' } = metadata
  if (!fapi2Methods.includes(method)) {
    const allowed = fapi2Methods.join(', ')
    return `token_endpoint_auth_method must be one of ${allowed} (section 5.3.2.1 number 6)`
  }
  if (metadata.endpoint_audience) {
    return 'endpoint_audience must be false (section 5.3.2.1 number 8)'
  }
  const binding = bindingMethodOf(metadata)
  return binding === 'dpop' || binding === 'mtls'
    ? undefined
    : 'binding_method must be dpop or mtls (section 5.3.2.1 number 5)'
}

function flowProblem(metadata: ClientMetadata): string | undefined {
  const { response_types } = metadata
  if (response_types?.some((type) => type !== 'code')) {
    return 'response_types must be code (section 5.3.2.2 number 1)'
  }
  if (metadata.require_pushed_authorization_requests === false) {
    return 'require_pushed_authorization_requests must be true (section 5.3.2.2 number 3)'
  }
  if (metadata.require_pkce === false) {
    return 'require_pkce must be true (section 5.3.2.2 number 5)'
  }
  const isOpen = redirectUrisOf(metadata).some((uri) => {
    const url = URL.parse(uri)
    return url?.protocol === 'http:' && !isOfThisMachine(url.hostname)
  })
  return isOpen ? 'redirect_uris must be https (section 5.3.2.2 number 8)' : undefined
}

const algorithmMembers = [
  'authorization_signed_response_alg',
  'id_token_signed_response_alg',
  'introspection_signed_response_alg',
  'request_object_signing_alg',
  'token_endpoint_auth_signing_alg',
] as const

function algorithmProblem(metadata: ClientMetadata): string | undefined {
  const wrong = algorithmMembers.find((name) => {
    const named = metadata[name]
    return named !== undefined && !fapi2Algorithms.includes(named)
  })
  return wrong && `${wrong} must be PS256, ES256 or EdDSA (section 5.4.1)`
}

/** Clients that a server of a profile refuses, because they contradict it. */
export function clientsAgainst(
  profile: Profile | undefined,
  clients: readonly { readonly metadata: ClientMetadata }[],
): string[] {
  const contradicts = ({ metadata }: { readonly metadata: ClientMetadata }) => {
    try {
      withProfile(metadata, profile)
      return false
    } catch {
      return true
    }
  }
  return clients.filter(contradicts).map(({ metadata }) => metadata.client_id)
}
