import { type ClientMetadata, errors } from 'oidc-provider'
import { displayNameRule, isDisplayName } from '../net/display-name.ts'
import { spellingProblem } from '../net/normal-uri.ts'
import { isOfThisMachine } from '../net/this-machine.ts'
import type { RegistrationPolicy } from '../storage/registration-table.ts'
import {
  type BindingMethod,
  bindingMethodOf,
  bindingMethods,
  namesBinding,
} from './binding-method.ts'
import { nameLimit, RegistrationError, type RequestedMetadata } from './client-registration.ts'
import { deviceGrant } from './grant-types.ts'

/** `implicit` is what the hybrid flow asks for (OpenID Connect Registration section 2). */
export const registrableGrantTypes = [
  'authorization_code',
  'refresh_token',
  'client_credentials',
  'implicit',
  deviceGrant,
] as const

export const registrableAuthMethods = [
  'none',
  'client_secret_basic',
  'client_secret_post',
  'private_key_jwt',
  'tls_client_auth',
  'self_signed_tls_client_auth',
] as const

/**
 * The policy of an administrator who names none: applications that people sign in to, whose tokens
 * are bound. A client of client_credentials asks for the scopes of any API without a person who
 * could decline, so that grant has to be asked for by name, as bearer tokens have.
 */
export const defaultPolicy: RegistrationPolicy = {
  grantTypes: ['authorization_code', 'refresh_token'],
  authMethods: registrableAuthMethods,
  bindingMethods: bindingMethods.filter((method) => method !== 'bearer'),
  scopes: ['openid', 'offline_access', 'profile', 'email'],
  redirectHosts: null,
}

/** The scopes of a policy that names none: a conformant one has all that OpenID Connect defines. */
export const defaultScopes = (conformant: boolean): readonly string[] =>
  conformant ? [...defaultPolicy.scopes, 'address', 'phone'] : defaultPolicy.scopes

/**
 * RFC 7591 section 2: what is not understood is ignored, and what is not here is not understood.
 * `logo_uri` is among that: people see a logo at consent only where an administrator has looked at it.
 */
export const registrableMetadata: ReadonlySet<string> = new Set([
  'application_type',
  'authorization_encrypted_response_alg',
  'authorization_encrypted_response_enc',
  'authorization_signed_response_alg',
  'backchannel_logout_session_required',
  'backchannel_logout_uri',
  'binding_method',
  'client_access_token_token_binding_supported',
  'client_name',
  'client_refresh_token_token_binding_supported',
  'client_uri',
  'contacts',
  'default_acr_values',
  'default_max_age',
  'dpop_bound_access_tokens',
  'frontchannel_logout_session_required',
  'frontchannel_logout_uri',
  'grant_types',
  'id_token_claims',
  'id_token_signed_response_alg',
  'id_token_token_binding_cnf',
  'initiate_login_uri',
  'introspection_signed_response_alg',
  'jwks',
  'jwks_uri',
  'policy_uri',
  'post_logout_redirect_uris',
  'profile',
  'redirect_uris',
  'request_object_signing_alg',
  'require_auth_time',
  'require_pushed_authorization_requests',
  'require_signed_request_object',
  'response_modes',
  'response_types',
  'scope',
  'subject_type',
  'tls_client_auth_san_dns',
  'tls_client_auth_san_email',
  'tls_client_auth_san_ip',
  'tls_client_auth_san_uri',
  'tls_client_auth_subject_dn',
  'tls_client_certificate_bound_access_tokens',
  'token_endpoint_auth_method',
  'token_endpoint_auth_signing_alg',
  'tos_uri',
  'use_mtls_endpoint_aliases',
  'userinfo_signed_response_alg',
])

/** What gives a client powers over others: administrators decide about it. */
const reserved = [
  'administration',
  'session_policy',
  'self_registered',
  'open_client',
  'require_pkce',
  'require_nonce',
  'redirect_errors',
  'endpoint_audience',
  'skip_consent',
]

/** What a conformant client may say of itself, and has as OpenID Connect has it. */
const conformantMembers: readonly string[] = [
  'require_pkce',
  'require_nonce',
  'redirect_errors',
  'endpoint_audience',
]

const limits = { members: 100, list: 20, text: 2048, contact: 254, metadata: 16 * 1024 }

/**
 * The metadata that a client gets which asks for `requested`: what is not understood left out, the
 * defaults of RFC 7591 section 2 filled in. That it makes sense is for the engine to check.
 *
 * @param ownHosts where its pages may be beside the hosts of its redirect URIs.
 * @throws {@link RegistrationError} when it asks for more than the policy allows.
 */
export function applyPolicy(
  policy: RegistrationPolicy,
  requested: Readonly<Record<string, unknown>>,
  { ownHosts = [] }: { ownHosts?: readonly string[] } = {},
): RequestedMetadata {
  // Section 3.2.2. No issuer of statements is trusted, and to register less than a statement says
  // would surprise everyone.
  if (requested.software_statement !== undefined) {
    throw new RegistrationError(
      'unapproved_software_statement',
      'No software statement is approved here: send the metadata itself.',
    )
  }
  if (Object.keys(requested).length > limits.members) {
    throw invalid(`metadata must have ${limits.members} members or less`)
  }
  const ofConformant = policy.conformant ? conformantMembers : []
  const refused = reserved.find(
    (name) => requested[name] !== undefined && !ofConformant.includes(name),
  )
  if (refused) throw invalid(`${refused} is for an administrator to set`)
  // RFC 7592 section 2.2: null stands for what is not there.
  const asked = Object.entries(requested).filter(
    ([name, value]) =>
      (registrableMetadata.has(name) || ofConformant.includes(name)) &&
      value !== undefined &&
      value !== null &&
      value !== '',
  )
  checkSizes(asked)
  const metadata = withDefaults(Object.fromEntries(asked), policy)
  checkChoices(metadata, policy)
  checkRedirects(metadata, policy)
  checkUris(metadata, policy, ownHosts)
  return metadata
}

function withDefaults(asked: RequestedMetadata, policy: RegistrationPolicy): RequestedMetadata {
  const grantTypes = asked.grant_types ?? ['authorization_code']
  const hasCode = Array.isArray(grantTypes) && grantTypes.includes('authorization_code')
  return {
    ...asked,
    grant_types: grantTypes,
    response_types: asked.response_types ?? (hasCode ? ['code'] : []),
    redirect_uris: asked.redirect_uris ?? [],
    token_endpoint_auth_method: asked.token_endpoint_auth_method ?? 'client_secret_basic',
    // OpenID Connect has bearer tokens where a client says nothing. A profile says something.
    ...(policy.conformant &&
      !namesBinding(asked) &&
      asked.profile === undefined && { binding_method: 'bearer' }),
    ...(policy.conformant && conformantDefaults(asked)),
    // Without this member the engine lets a client ask for every scope.
    scope: asked.scope ?? policy.scopes.join(' '),
  }
}

/**
 * OpenID Connect has no PKCE, a nonce only where an ID token leaves by the front channel, sends every
 * error to the client, and has assertions for the token endpoint.
 */
function conformantDefaults({
  token_endpoint_auth_method: method,
  profile,
  require_pkce = false,
  require_nonce = false,
  redirect_errors = true,
  endpoint_audience = method === 'private_key_jwt' && profile === undefined,
}: RequestedMetadata): Partial<RequestedMetadata> {
  const isExcused = method !== 'none' && profile === undefined && !require_pkce
  return {
    redirect_errors,
    ...(endpoint_audience && { endpoint_audience }),
    ...(isExcused && { require_pkce, require_nonce }),
  }
}

function checkSizes(asked: readonly (readonly [string, unknown])[]): void {
  if (Buffer.byteLength(JSON.stringify(asked)) > limits.metadata) {
    throw invalid(`metadata must not be longer than ${limits.metadata} bytes`)
  }
  for (const [name, value] of asked) {
    const values = Array.isArray(value) ? value : [value]
    if (values.length > limits.list)
      throw invalid(`${name} must have ${limits.list} members or less`)
    const limit = name === 'contacts' ? limits.contact : limits.text
    if (values.some((each) => typeof each === 'string' && each.length > limit)) {
      throw invalid(`${name} must not be longer than ${limit} characters`)
    }
    if (name === 'client_name') checkName(value)
    if (name === 'jwks') checkKeyCount(value)
  }
}

/** People read it on the page that asks for their consent. */
function checkName(name: unknown): void {
  if (typeof name !== 'string' || !isDisplayName(name, nameLimit)) {
    throw invalid(`client_name must be ${displayNameRule(nameLimit)}`)
  }
}

function checkKeyCount(jwks: unknown): void {
  const { keys } = Object(jwks)
  if (Array.isArray(keys) && keys.length > limits.list) {
    throw invalid(`jwks must have ${limits.list} keys or less`)
  }
}

function checkChoices(metadata: RequestedMetadata, policy: RegistrationPolicy): void {
  const responses = strings('response_types', metadata.response_types)
  // The engine adds the grant that a response type needs.
  const needed = responses.flatMap((type) =>
    type.split(' ').flatMap((part) => grantsOf[part] ?? [part]),
  )
  const grantTypes = [...strings('grant_types', metadata.grant_types), ...needed]
  allow('grant_types', grantTypes, policy.grantTypes)
  const { token_endpoint_auth_method: method } = metadata
  allow('token_endpoint_auth_method', [String(method)], policy.authMethods)
  allow('binding_method', [bindingOf(metadata)], policy.bindingMethods)
  if (typeof metadata.scope !== 'string') throw invalid('scope must be a string')
  allow('scope', metadata.scope.split(' '), policy.scopes)
}

function bindingOf(metadata: RequestedMetadata): BindingMethod {
  try {
    return bindingMethodOf(metadata)
  } catch (cause) {
    if (!(cause instanceof errors.InvalidClientMetadata)) throw cause
    throw invalid(cause.error_description ?? cause.message)
  }
}

const grantsOf: Readonly<Record<string, string>> = {
  code: 'authorization_code',
  id_token: 'implicit',
  token: 'implicit',
}

function allow(name: string, asked: readonly string[], allowed: readonly string[]): void {
  const other = asked.find((value) => !allowed.includes(value))
  if (other !== undefined) {
    throw invalid(`${name} may have ${allowed.join(', ')} only, by the policy of this registration`)
  }
}

function checkRedirects(metadata: RequestedMetadata, { redirectHosts }: RegistrationPolicy): void {
  for (const name of ['redirect_uris', 'post_logout_redirect_uris'] as const) {
    for (const uri of strings(name, metadata[name] ?? [])) {
      const problem = redirectProblem(uri, metadata.application_type === 'native', redirectHosts)
      if (problem) throw new RegistrationError('invalid_redirect_uri', `${name} ${problem}.`)
    }
  }
}

/**
 * Where a code may be sent: https of a host, and for native applications what RFC 8252 section 7
 * has for them. Redirect URIs are compared whole, so that a `*` would stand for itself, and not for
 * what its author thinks.
 */
function redirectProblem(
  uri: string,
  isNative: boolean,
  hosts: RegistrationPolicy['redirectHosts'],
): string | undefined {
  const misspelt = spellingProblem(uri)
  if (misspelt) return misspelt
  const url = new URL(uri)
  if (uri.includes('*')) return 'must not have wildcards'
  if (url.username || url.password) return 'must not have user names'
  const isWeb = url.protocol === 'https:' && !isOfThisMachine(url.hostname)
  if (hosts) {
    return isWeb && hosts.includes(url.hostname)
      ? undefined
      : `must be https at ${hosts.join(', ')}, by the policy of this registration`
  }
  if (isWeb) return undefined
  if (!isNative) return 'must be https, and not of this machine'
  if (url.protocol === 'http:') {
    return isOfThisMachine(url.hostname) ? undefined : 'must be https, or http of loopback'
  }
  // RFC 8252 section 7.1: a domain name turned round, which has a dot.
  return url.protocol.includes('.') ? undefined : 'must have a scheme such as com.example.app'
}

function checkUris(
  metadata: RequestedMetadata,
  { conformant }: RegistrationPolicy,
  ownHosts: readonly string[],
): void {
  const redirectHosts = (metadata.redirect_uris ?? []).flatMap(
    (uri) => URL.parse(uri)?.hostname || [],
  )
  const hosts = [...redirectHosts, ...ownHosts]
  for (const name of ['client_uri', 'policy_uri', 'tos_uri', 'backchannel_logout_uri'] as const) {
    const url = httpsUri(name, metadata[name])
    // RFC 7591 section 5: a page of someone else lends its name to anyone who links to it. And no
    // stranger makes this server send logout tokens to someone else.
    const isFree = (hosts.length === 0 || conformant) && name !== 'backchannel_logout_uri'
    if (url && !isFree && !hosts.includes(url.hostname)) {
      throw invalid(`${name} must be at a host of redirect_uris`)
    }
  }
  for (const name of ['jwks_uri', 'initiate_login_uri'] as const) httpsUri(name, metadata[name])
}

function httpsUri(name: string, uri: unknown): URL | undefined {
  if (uri === undefined) return undefined
  const url = typeof uri === 'string' ? URL.parse(uri) : null
  if (url?.protocol !== 'https:' || url.username || url.password) {
    throw invalid(`${name} must be an https URL`)
  }
  return url
}

function strings(name: keyof ClientMetadata, value: unknown): string[] {
  if (!Array.isArray(value) || value.some((each) => typeof each !== 'string')) {
    throw invalid(`${String(name)} must be a list of strings`)
  }
  return value
}

function invalid(what: string): RegistrationError {
  return new RegistrationError(
    'invalid_client_metadata',
    `The client cannot be registered: ${what}.`,
  )
}
