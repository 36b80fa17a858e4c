/**
 * Clients that nobody has let in: those that a document at their own URL describes (OAuth Client ID
 * Metadata Document, draft-ietf-oauth-client-id-metadata-document-02), and those of an open
 * registration endpoint. Programs for people who have never heard of this server come so, such as
 * agents that speak the Model Context Protocol. What they may be is decided here, for all of them.
 */
import { isOfThisMachine } from '../net/this-machine.ts'
import type { RegistrationPolicy } from '../storage/registration-table.ts'
import { RegistrationError, type RequestedMetadata } from './client-registration.ts'
import { applyPolicy } from './registration-policy.ts'

/** Where the metadata of a client comes from that no administrator has looked at or invited. */
export type OpenClientSource = 'document' | 'registration'

declare module 'oidc-provider' {
  interface ClientMetadata {
    /** Of a client that anyone may bring: it gets the scopes of APIs that are open to all. */
    open_client?: string | undefined
  }
}

/** People sign in to it, its tokens are bound, and it has no power of its own. */
export const openPolicy: RegistrationPolicy = {
  grantTypes: ['authorization_code', 'refresh_token'],
  authMethods: ['none', 'private_key_jwt', 'client_secret_basic', 'client_secret_post'],
  bindingMethods: ['dpop'],
  scopes: ['openid', 'offline_access', 'profile', 'email'],
  redirectHosts: null,
}

/** A document is public: a secret in it is not secret (draft section 4.1). */
const documentPolicy: RegistrationPolicy = {
  ...openPolicy,
  authMethods: ['none', 'private_key_jwt'],
}

/** What such a client may say of itself. Everything else is left out. */
const understood: ReadonlySet<string> = new Set([
  'application_type',
  'binding_method',
  'client_name',
  'client_uri',
  'dpop_bound_access_tokens',
  'grant_types',
  'id_token_signed_response_alg',
  'jwks',
  'jwks_uri',
  'policy_uri',
  'redirect_uris',
  'response_types',
  'token_endpoint_auth_method',
  'token_endpoint_auth_signing_alg',
  'tos_uri',
])

type Requested = Readonly<Record<string, unknown>>

/**
 * The metadata of a client that nobody has let in. Grants and response types that this server does not
 * give to such clients are left out; so is `scope`, which clients copy from what an API supports:
 * they may ask for every scope that is open to all.
 *
 * @param ownHost the host of its document, where its pages may be as well.
 * @throws RegistrationError for metadata that no such client may have.
 */
export function openClient(
  source: OpenClientSource,
  requested: Requested,
  ownHost?: string,
): RequestedMetadata {
  const policy = source === 'document' ? documentPolicy : openPolicy
  const known = Object.fromEntries(
    Object.entries(requested).filter(([name]) => understood.has(name)),
  )
  const asked = {
    ...known,
    grant_types: among(requested.grant_types, policy.grantTypes),
    response_types: among(requested.response_types, ['code']),
    ...(source === 'document' && {
      token_endpoint_auth_method: requested.token_endpoint_auth_method ?? 'none',
    }),
    scope: policy.scopes.join(' '),
    application_type: requested.application_type ?? applicationTypeOf(requested),
  }
  const ownHosts = ownHost === undefined ? [] : [ownHost]
  checkKeysHost(asked, ownHosts)
  return {
    ...applyPolicy(policy, asked, { ownHosts }),
    self_registered: true,
    open_client: source,
  }
}

/** Nobody who is asked to let a client in makes this server ask the host of someone else for keys. */
function checkKeysHost(
  { jwks_uri: uri, redirect_uris: redirects }: Requested,
  ownHosts: readonly string[],
): void {
  if (uri === undefined) return
  const hostOf = (each: unknown) =>
    typeof each === 'string' ? URL.parse(each)?.hostname : undefined
  const hosts = [...ownHosts, ...(Array.isArray(redirects) ? redirects.map(hostOf) : [])]
  const host = hostOf(uri)
  if (host !== undefined && hosts.includes(host)) return
  throw new RegistrationError(
    'invalid_client_metadata',
    'The client cannot be registered: jwks_uri must be at the host of its document or of a redirect URI.',
  )
}

/** Undefined for what is no list, and for a list without any of these: the defaults apply then. */
function among(value: unknown, allowed: readonly string[]): readonly string[] | undefined {
  if (!Array.isArray(value)) return undefined
  const kept = value.filter((each) => allowed.includes(each))
  return kept.length > 0 ? kept : undefined
}

/**
 * RFC 8252 section 8.4 has native apps say so; many do not. One whose redirects lead to this machine,
 * or to an app of it, is one.
 */
function applicationTypeOf({ redirect_uris: uris }: Requested): 'native' | undefined {
  const isOfApp = (uri: unknown) => {
    const url = typeof uri === 'string' ? URL.parse(uri) : null
    return url !== null && (url.protocol !== 'https:' || isOfThisMachine(url.hostname))
  }
  return Array.isArray(uris) && uris.some(isOfApp) ? 'native' : undefined
}

/** The distinct places that a client may send people to. */
export interface RedirectPlaces {
  /** Hosts of the web, and schemes of apps. */
  readonly hosts: readonly string[]
  /** Whether any program of the person's own machine can receive what is sent there. */
  readonly isLocalOnly: boolean
}

/** Where redirect URIs lead, each place once. */
export function redirectPlaces(redirectUris: readonly string[]): RedirectPlaces {
  const isLocal = (uri: string) => {
    const url = URL.parse(uri)
    return !url || !isOfWeb(url) || isOfThisMachine(url.hostname)
  }
  return {
    hosts: [...new Set(redirectUris.map(redirectPlace))].sort(),
    isLocalOnly: redirectUris.every(isLocal),
  }
}

/** Where a redirect leads, without the port that an app on this device changes each time. */
export function redirectPlace(redirectUri: string): string {
  const url = URL.parse(redirectUri)
  if (!url) return redirectUri
  const { protocol, hostname, host } = url
  if (!isOfWeb(url)) return protocol
  return isOfThisMachine(hostname) ? hostname : host
}

const isOfWeb = ({ protocol }: URL) => protocol === 'https:' || protocol === 'http:'
