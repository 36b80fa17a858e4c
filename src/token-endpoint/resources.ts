/** Which API a request wants its access token for (RFC 8707). */
import type { SigningAlgorithm } from '../config/signing-algorithms.ts'
import { type Refusal, refuse } from './refusal.ts'
import type { StoredSource } from './stored.ts'
import type { TokenClient, TokenRequest } from './token-request.ts'

/** An API that access tokens can be made for. */
export interface FoundResource {
  readonly identifier: string
  /** What `aud` says. */
  readonly audience: string
  readonly scopes: ReadonlySet<string>
  /** Those of them that clients may have which nobody has let in. */
  readonly openScopes?: readonly string[] | undefined
  readonly algorithm: SigningAlgorithm
  /** The types of authorization details (RFC 9396) that it understands. */
  readonly detailsTypes: ReadonlySet<string>
}

/** Finds the API of an identifier, as far as a client may have tokens for it. */
export type FindResource = (
  identifier: string,
  client: TokenClient,
) => Promise<FoundResource | undefined>

/** The one resource that a client asks for in its own name; undefined where it names none. */
export function requestedResource({ resources }: TokenRequest): string | Refusal | undefined {
  for (const resource of resources) {
    const href = URL.parse(resource)?.href
    if (!href || href.includes('#')) return refuse('resource_malformed')
  }
  const distinct = new Set(resources)
  if (distinct.size > 1) {
    const description = 'only a single resource indicator value is supported for this grant type'
    return refuse('resource_several', { description })
  }
  return resources[0]
}

/**
 * The one resource of what a person has granted: the one that the request names, else the granted
 * one, unless the token is to be used at userinfo: then only the client's default counts, or the API
 * of authorization details.
 */
export function grantedResource(
  { resources, client: { defaultResource } }: TokenRequest,
  { resource, rar }: StoredSource,
  scopes: ReadonlySet<string>,
): string | Refusal | undefined {
  const granted = resource === undefined ? [] : [resource].flat()
  const preferred = granted.filter((each) => each === defaultResource)
  const isForUserinfo = scopes.has('openid') && (rar === undefined || granted.length > 1)
  const implied = preferred.length > 0 || isForUserinfo ? preferred : granted
  const wanted = resources.length > 0 ? resources : implied
  if (wanted.length > 1) return refuse('resource_several')
  const [named] = wanted
  if (named !== undefined && !granted.includes(named)) return refuse('resource_not_granted')
  return named
}

/**
 * Looks up a resource that was decided on, with the scopes that the client may have of it. One that is
 * not there, or not for this client, refuses the request.
 */
export async function findResource(
  named: string | Refusal | undefined,
  client: TokenClient,
  find: FindResource,
): Promise<FoundResource | Refusal | undefined> {
  if (typeof named !== 'string') return named
  const found = await find(named, client)
  if (!found) return refuse('resource_unknown')
  const scopes = client.scopesAt([...found.scopes], found.openScopes)
  return scopes ? { ...found, scopes: new Set(scopes) } : refuse('resource_unregistered')
}
