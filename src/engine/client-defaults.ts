/**
 * What a request means that leaves `resource` or `scope` out, as many libraries do: they have no
 * setting for it. Nothing is given here that the request could not have named itself.
 */
import { type ClientMetadata, errors, type KoaContextWithOIDC } from 'oidc-provider'
import { ownScopesOf, scopesAtResource } from '../clients/client-scopes.ts'
import type { ResourceServerTable } from '../storage/resource-server-table.ts'

declare module 'oidc-provider' {
  interface ClientMetadata {
    /** The API that a request is for which names none. */
    default_resource?: string | undefined
    /** The scopes of a request that names none (RFC 6749 section 3.3). */
    default_scope?: string | undefined
  }
}

type Defaults = Pick<
  ClientMetadata,
  | 'default_resource'
  | 'default_scope'
  | 'scope'
  | 'resource_scopes'
  | 'self_registered'
  | 'open_client'
>

/**
 * @param standard the scopes of this server itself.
 * @throws the engine's `invalid_client_metadata`.
 */
export function checkDefaults(metadata: Defaults, standard: ReadonlySet<string>): void {
  const { default_resource: resource, default_scope: scope, scope: most } = metadata
  if (resource !== undefined && !isResource(resource)) {
    const problem = 'default_resource must be an absolute URI without a fragment'
    throw new errors.InvalidClientMetadata(problem)
  }
  if (scope === undefined) return
  if (typeof scope !== 'string' || !/^[!#-[\]-~]+( [!#-[\]-~]+)*$/.test(scope)) {
    throw new errors.InvalidClientMetadata('default_scope must be scopes with spaces between them')
  }
  const allowed = most === undefined ? undefined : new Set(most.split(' '))
  const other = scope.split(' ').find((each) => standard.has(each) && allowed?.has(each) === false)
  if (other !== undefined) {
    throw new errors.InvalidClientMetadata(`default_scope has ${other}, which scope has not`)
  }
}

function isResource(value: unknown): boolean {
  const url = typeof value === 'string' ? URL.parse(value) : null
  return url !== null && !url.href.includes('#')
}

/** Finds the one API that scopes can be meant for; undefined for none and for several. */
export type ResourceOfScopes = (scopes: Iterable<string>) => Promise<string | undefined>

/** Looks among the APIs that are registered. */
export function createResourceOfScopes(
  table: Pick<ResourceServerTable, 'listRemembered'>,
  standard: ReadonlySet<string>,
): ResourceOfScopes {
  return async (scopes) => {
    const named = [...scopes].filter((scope) => !standard.has(scope))
    if (named.length === 0) return undefined
    const all = await table.listRemembered()
    const known = named.filter((scope) => all.some((api) => api.scopes.includes(scope)))
    if (known.length === 0) return undefined
    const fitting = all.filter((api) => known.every((scope) => api.scopes.includes(scope)))
    return fitting.length === 1 ? fitting[0]?.identifier : undefined
  }
}

/**
 * The engine's `defaultResource`, which it asks for after it has checked the scopes of a request that
 * names no resource. A sign-in alone gets no resource: its token is for userinfo.
 */
export function createDefaultResource(resourceOfScopes: ResourceOfScopes) {
  return async (
    { oidc }: KoaContextWithOIDC,
    client: unknown,
    several?: readonly string[],
  ): Promise<string | readonly string[] | undefined> => {
    const { params } = oidc
    if (several || !params) return several
    const { default_resource: resource, default_scope: scope } = client as Defaults
    if (params.scope === undefined && scope !== undefined) params.scope = scope
    const asked = [...oidc.requestParamScopes]
    // Which of them are open, the API that they lead to says.
    const allowed = scopesAtResource(client as Defaults, asked, asked) ?? []
    const implied = await resourceOfScopes(allowed)
    if (resource === undefined) return implied
    const isSignIn = oidc.requestParamScopes.has('openid') && implied === undefined
    return isSignIn ? undefined : resource
  }
}

/**
 * Gives a request that names an API and no scope the client's default scope, else the open scopes of
 * that API where nobody has let the client in: an agent that knows of no scopes sends none.
 */
export function fillScope(
  { oidc: { params } }: KoaContextWithOIDC,
  client: unknown,
  openScopes: readonly string[],
): void {
  if (!params || params.scope !== undefined) return
  const { default_scope: scope, open_client: open } = client as Defaults
  const implied = open === undefined ? '' : openScopes.join(' ')
  if (scope || implied) params.scope = scope ?? implied
}

/**
 * Refuses a request of which no scope is left (RFC 6749 section 3.3): the engine would answer
 * `access_denied` once the person has signed in.
 *
 * @param standard the scopes of this server itself.
 */
export function requireScope(
  { oidc: { params, resourceServers } }: KoaContextWithOIDC,
  standard: ReadonlySet<string>,
): void {
  if (params?.authorization_details !== undefined) return
  const apis = Object.values(resourceServers ?? {})
  const isKnown = (scope: string) =>
    standard.has(scope) || apis.some((api) => api.scopes.has(scope))
  const asked = typeof params?.scope === 'string' ? params.scope.split(' ') : []
  if (asked.some(isKnown)) return
  const problem =
    asked.length > 0
      ? 'no requested scope is known and allowed; a scope of several APIs needs a resource'
      : 'a scope is required: the client has no default_scope'
  throw new errors.InvalidScope(problem, String(params?.scope ?? ''))
}

/**
 * The engine takes a client that has registered no scope of this server for one that may have all.
 *
 * @param standard the scopes of this server itself.
 * @throws the engine's `invalid_scope`.
 */
export function requireRegisteredScopes(
  { oidc: { client, params } }: KoaContextWithOIDC,
  standard: ReadonlySet<string>,
): void {
  const allowed = ownScopesOf(client as unknown as ClientMetadata)
  const asked = typeof params?.scope === 'string' ? params.scope.split(' ') : []
  const other = asked.find((scope) => standard.has(scope) && allowed?.has(scope) === false)
  if (other !== undefined) throw new errors.InvalidScope('requested scope is not allowed', other)
}
