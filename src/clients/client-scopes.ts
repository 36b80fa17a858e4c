/**
 * The scopes that a client may ask for. The engine's `scope` of a client is about the scopes of this
 * server alone, and refuses all others; those of APIs are in `resource_scopes`.
 */
import { type ClientMetadata, errors } from 'oidc-provider'

declare module 'oidc-provider' {
  interface ClientMetadata {
    /** Scopes of APIs, as in `scope`: the only ones that the client may ask for. */
    resource_scopes?: string | undefined
  }
}

type ScopeMetadata = Pick<
  ClientMetadata,
  'scope' | 'resource_scopes' | 'self_registered' | 'open_client'
>

/** A scope of RFC 6749 section 3.3. */
export const scopePattern = /^[\x21\x23-\x5b\x5d-\x7e]+$/

/** The scopes of this server itself, which are no API's. */
export function standardScopesOf(claimsByScope: object): ReadonlySet<string> {
  return new Set(['openid', 'offline_access', ...Object.keys(claimsByScope)])
}

/**
 * The scopes of this server that a client may ask for; undefined for all of them. For a client that
 * registered itself, scopes of APIs alone leave none; where an administrator has left it no scope at
 * all, it may have people sign in and learns nothing else of them.
 */
export function ownScopesOf(client: ScopeMetadata): ReadonlySet<string> | undefined {
  const { scope, resource_scopes, self_registered } = client
  if (scope !== undefined) return scopesIn(scope)
  if (!self_registered) return undefined
  return scopesIn(resource_scopes === undefined ? 'openid' : undefined)
}

/**
 * The scopes of APIs that a client may ask for; undefined for all of them. One that registered itself
 * before registrations named scopes of APIs has none.
 */
export function resourceScopesOf(client: ScopeMetadata): ReadonlySet<string> | undefined {
  const { resource_scopes: scopes, self_registered, open_client } = client
  const isLimited = self_registered && open_client === undefined
  return scopes === undefined && !isLimited ? undefined : scopesIn(scopes)
}

const scopesIn = (scope: string | undefined) => new Set(scope?.split(' ').filter(Boolean))

/**
 * The scopes of an API that a client may have; undefined where the API is not for this client: a
 * client that is limited needs one scope at least, or it would have tokens for an API that looks at
 * no scopes.
 *
 * @param openScopes those of the API that clients may have which nobody has let in.
 */
export function scopesAtResource(
  client: ScopeMetadata,
  scopes: readonly string[],
  openScopes: readonly string[] = [],
): readonly string[] | undefined {
  const limit = client.open_client === undefined ? resourceScopesOf(client) : new Set(openScopes)
  if (!limit) return scopes
  const allowed = scopes.filter((scope) => limit.has(scope))
  return allowed.length > 0 ? allowed : undefined
}

/** What a client learns that asks for an API of which it has registered no scope. */
export const unregisteredResource = 'the client has registered no scope of this resource'

/** Metadata of which `scope` may name scopes of APIs, as the engine has it. */
export function splitScopes<T extends ScopeMetadata>(
  metadata: T,
  standard: ReadonlySet<string>,
): T {
  const { scope, ...rest } = metadata
  const scopes = [...new Set(scope?.split(' '))]
  const own = scopes.filter((each) => standard.has(each)).join(' ')
  const ofResources = scopes.filter((each) => !standard.has(each)).join(' ')
  return { ...rest, ...(own && { scope: own }), resource_scopes: ofResources } as unknown as T
}

/** Metadata as RFC 7591 has it, with one `scope`. */
export function joinScopes<T extends ScopeMetadata>(metadata: T): T {
  const { scope, resource_scopes, ...rest } = metadata
  const joined = [scope, resource_scopes].filter(Boolean).join(' ')
  return { ...rest, ...(joined && { scope: joined }) } as unknown as T
}

/** @throws the engine's `invalid_client_metadata`. */
export function checkScopeMetadata({ resource_scopes: scopes }: ScopeMetadata): void {
  if (scopes === undefined || scopes === '') return
  const isText = typeof scopes === 'string'
  if (!isText || !scopes.split(' ').every((scope) => scopePattern.test(scope))) {
    throw new errors.InvalidClientMetadata(
      'resource_scopes must be scopes with spaces between them',
    )
  }
}
