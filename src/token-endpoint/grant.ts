import type { ResourceOfScopes } from '../engine/client-defaults.ts'
import type { Account } from '../storage/account-store.ts'
import type { ArtifactKey, StoredArtifact } from '../storage/artifact-table.ts'
import type { Redeemable } from './checks.ts'
import { familyOfCode, refuseReuse } from './family.ts'
import { grantedDetails } from './granted-details.ts'
import {
  accessTokenOf,
  type Issue,
  type Issued,
  idTokenOf,
  type KeyChange,
  type RefreshTokenPlan,
  type TokenPolicy,
} from './issue.ts'
import { isRefusal, type Refusal } from './refusal.ts'
import {
  type FindResource,
  type FoundResource,
  findResource,
  grantedResource,
} from './resources.ts'
import type { Found, StoredSource } from './stored.ts'
import { accessTokenKeys, type DecidedKeys, isCertified, refreshTokenKeys } from './token-keys.ts'
import type { TokenRequest } from './token-request.ts'

/** Looks things up; each is a statement at most. */
export interface Finders {
  /** A code or token with everything that it depends on. */
  readonly credential: <Source extends StoredSource>(
    kind: 'AuthorizationCode' | 'BackchannelAuthenticationRequest' | 'DeviceCode' | 'RefreshToken',
    value: string,
  ) => Promise<Found<Source> | undefined>
  readonly resource: FindResource
  /** The one API that scopes can be meant for. */
  readonly resourceOfScopes: ResourceOfScopes
  readonly artifact: (key: ArtifactKey) => Promise<StoredArtifact | undefined>
}

/**
 * A grant: what it needs, and what comes of it. `decide` is a function of the request, of what was
 * found and of nothing else; it runs without HTTP, database or clock.
 */
export interface Grant<What> {
  /** Its name, as in `grant_type`. */
  readonly grantType: string
  readonly required: readonly string[]
  readonly optional: readonly string[]
  find(request: TokenRequest, finders: Finders): Promise<What>
  decide(request: TokenRequest, found: What): Issue | Refusal
  /** What becomes of a request that was too late: another one has used its credential. */
  lose?(request: TokenRequest, found: What): Refusal
  /** Whether such a request gets its answer all the same. */
  mayRepeat?(found: What, issued: Issued, finders: Finders): Promise<boolean>
}

/** What a person's grant looks for: the credential, and the API that the token is for. */
export interface FoundSource<Source extends StoredSource> {
  readonly credential: Found<Source> | undefined
  readonly resource: FoundResource | Refusal | undefined
}

/** Finds a credential, and the API that its token is to be for. */
export async function findSource<Source extends StoredSource>(
  request: TokenRequest,
  { credential: find, resource }: Finders,
  {
    kind,
    value = '',
    scopes = scopesOf,
  }: {
    kind: Parameters<Finders['credential']>[0]
    value: string | undefined
    /** Those that the token is to have. */
    scopes?: (source: Source) => ReadonlySet<string>
  },
): Promise<FoundSource<Source>> {
  const credential = await find<Source>(kind, value)
  if (!credential) return { credential, resource: undefined }
  const { source } = credential
  const named = grantedResource(request, source, scopes(source))
  return { credential, resource: await findResource(named, request.client, resource) }
}

/** The scopes of a credential. */
export function scopesOf({ scope }: StoredSource): ReadonlySet<string> {
  return new Set(scope ? scope.split(' ') : [])
}

const inherited = [
  'accountId',
  'acr',
  'amr',
  'authTime',
  'claims',
  'expiresWithSession',
  'grantId',
  'nonce',
  'rar',
  'resource',
  'scope',
  'sessionUid',
  'sid',
  'referredTbh',
] as const satisfies readonly (keyof StoredSource)[]

/** The members that a credential hands down to the refresh token that follows it. */
export function handedDown(source: StoredSource): Pick<StoredSource, (typeof inherited)[number]> {
  return Object.fromEntries(inherited.map((name) => [name, source[name]]))
}

/** The first refresh token of a grant, if its client may have one. */
function firstRefreshToken(
  request: TokenRequest,
  source: StoredSource,
  {
    gty,
    family,
    bound,
    isRepeatable,
  }: {
    gty: string
    family: string
    bound: DecidedKeys
    isRepeatable: boolean
  },
): RefreshTokenPlan | undefined {
  const { client } = request
  if (!client.grantTypes.has('refresh_token')) return undefined
  const isKept = client.refreshTokens === 'keep'
  return {
    value: undefined,
    isRepeatable: isRepeatable && !isKept,
    isKept,
    bound: refreshTokenKeys(request, bound),
    payload: { ...handedDown(source), clientId: client.clientId, family, gty, rotations: 0 },
  }
}

/** What every grant of a person is made with. */
export interface PersonGrantOptions {
  readonly policy: TokenPolicy
  /** Everything that is known of an account, as claims. */
  readonly claimsOf: (account: Account) => Readonly<Record<string, unknown>>
  /** Whether refresh tokens may be used again for a moment. */
  readonly isRepeatable: boolean
}

/** What a person's grant decides beyond what all of them have in common. */
export interface PersonIssue {
  readonly gty: string
  /** The chain that the tokens belong to; undefined where it is not known. */
  readonly family: string | undefined
  /** The scopes that the access token is for, as far as they were granted. */
  readonly scopes: ReadonlySet<string>
  readonly resource: FoundResource | undefined
  /** Whether a certificate binds the access token. */
  readonly certified: boolean
  /** Whether the person signed in on another device. */
  readonly isElsewhere: boolean
  readonly refreshToken: (bound: DecidedKeys) => RefreshTokenPlan | undefined
  /** Whether the credential can be used again. */
  readonly isKept?: boolean
  readonly keyChanges?: readonly KeyChange[]
}

/** The tokens of a person's grant, once nothing speaks against it. */
export function issueTo(
  request: TokenRequest,
  found: Redeemable,
  { gty, family, scopes, resource, certified, isElsewhere, ...issue }: PersonIssue,
  { policy, claimsOf }: PersonGrantOptions,
): Issue | Refusal {
  const bound = accessTokenKeys(request, {
    audience: resource?.audience,
    issuer: policy.issuer,
    certified,
  })
  if (isRefusal(bound)) return bound
  const details = grantedDetails(request, found.source, resource)
  if (details && isRefusal(details)) return details
  const plan = { gty, family, bound, resource, scopes, details }
  const accessToken = accessTokenOf(request, found, plan)
  const idToken = idTokenOf(request, found, {
    scopes,
    hasAudience: resource !== undefined,
    isElsewhere,
    policy,
    claims: claimsOf(found.account),
  })
  if (idToken && isRefusal(idToken)) return idToken
  return {
    consumes: issue.isKept ? undefined : found.key,
    accessToken,
    refreshToken: issue.refreshToken(bound),
    idToken,
    scope: found.source.scope ? accessToken.scope : accessToken.scope || undefined,
    account: found.source.accountId,
    keyChanges: issue.keyChanges ?? [],
  }
}

/** The tokens of a code, with which a family begins. */
export function issueOfCode(
  request: TokenRequest,
  found: Redeemable,
  { gty, resource, isElsewhere }: Pick<PersonIssue, 'gty' | 'resource' | 'isElsewhere'>,
  options: PersonGrantOptions,
): Issue | Refusal {
  const { source, value } = found
  const { isRepeatable } = options
  const family = familyOfCode(value)
  const issue = {
    gty,
    family,
    scopes: scopesOf(source),
    resource,
    certified: isCertified(request.client),
    isElsewhere,
    refreshToken: (bound: DecidedKeys) =>
      firstRefreshToken(request, source, { gty, family, bound, isRepeatable }),
  }
  return issueTo(request, found, issue, options)
}

/** Refuses a code that was used before, and ends what came of it. */
export function refuseCodeReuse(
  credential: 'auth_req_id' | 'authorization_code' | 'device_code',
  found: Found<StoredSource> | undefined,
): Refusal {
  return refuseReuse(credential, found?.source, found && familyOfCode(found.value))
}
