/**
 * What is issued. A grant says what its tokens are to be, as values: {@link AccessTokenPlan} and its
 * kin. Here these become tokens, rows and an answer, by keys and random names that are handed in.
 */
import { mappedClaims } from '../accounts/claims.ts'
import type { AuthorizationDetail } from '../authorization-details/authorization-details.ts'
import { type BoundCredential, confirmations } from '../bindings/binding.ts'
import { sessionBindingClaim, sessionClaimsOfIdToken } from '../bindings/session-claims.ts'
import type { SigningAlgorithm } from '../config/signing-algorithms.ts'
import type { Account } from '../storage/account-store.ts'
import type { Artifact, ArtifactKey } from '../storage/artifact-table.ts'
import { artifactKey } from '../storage/artifact-table.ts'
import { grantedClaims, grantedScopes, grantedScopesOf, rejectedClaims } from './granted.ts'
import { type Refusal, refuse } from './refusal.ts'
import type { FoundResource } from './resources.ts'
import type { Found, StoredGrant, StoredRefreshToken, StoredSource } from './stored.ts'
import type { DecidedKeys } from './token-keys.ts'
import type { TokenClient, TokenRequest } from './token-request.ts'

/** A key that has taken the place of another, or will: confirmations, for the log. */
export interface KeyChange {
  readonly step: 'named' | 'rebound'
  readonly from: string | undefined
  readonly to: string | undefined
}

/** What a successful grant writes and answers. */
export interface Issue {
  /** The code or token that is used up by it. */
  readonly consumes: ArtifactKey | undefined
  readonly accessToken: AccessTokenPlan
  readonly refreshToken: RefreshTokenPlan | undefined
  readonly idToken: IdTokenPlan | undefined
  /** The member `scope` of the answer; undefined to leave it out. */
  readonly scope: string | undefined
  readonly account: string | undefined
  /** What the operator learns once it has become true. */
  readonly keyChanges: readonly KeyChange[]
}

export interface AccessTokenPlan {
  readonly kind: 'AccessToken' | 'ClientCredentials'
  readonly clientId: string
  readonly accountId: string | undefined
  readonly bound: DecidedKeys
  readonly scope: string | undefined
  /** Undefined for a token that is used at this server: that one is opaque. */
  readonly resource: FoundResource | undefined
  /** Authorization details (RFC 9396) for the resource. */
  readonly details: readonly AuthorizationDetail[] | undefined
  /** Claims that come on top. */
  readonly extra: Readonly<Record<string, unknown>> | undefined
  /** What else is stored with an opaque token. */
  readonly stored: Readonly<Record<string, unknown>>
}

export interface RefreshTokenPlan {
  /** Undefined for a random one. */
  readonly value: string | undefined
  /** Whether its successor is to be derived from it: then random bytes for that are stored. */
  readonly isRepeatable: boolean
  /** Whether it stays good when it is used: then it lives as long as its grant. */
  readonly isKept: boolean
  readonly bound: DecidedKeys
  readonly payload: Omit<StoredRefreshToken, 'exp' | 'iat' | 'iiat' | keyof BoundCredential> & {
    readonly iiat?: number | undefined
  }
}

export interface IdTokenPlan {
  readonly algorithm: SigningAlgorithm
  readonly claims: Readonly<Record<string, unknown>>
}

/** What this server is, as far as tokens say it. */
export interface TokenPolicy {
  readonly issuer: string
  /** Seconds. */
  readonly lifetimes: Readonly<
    Record<'AccessToken' | 'ClientCredentials' | 'RefreshToken' | 'Grant' | 'IdToken', number>
  >
  readonly claimsByScope: Readonly<Record<string, readonly string[]>>
}

/** The access token of a person's grant, for a resource or for this server. */
export function accessTokenOf(
  { client }: Pick<TokenRequest, 'client'>,
  {
    source,
    grant,
    browserSession,
    account,
    claimMappings,
  }: Pick<Found<StoredSource>, 'source' | 'browserSession' | 'claimMappings'> & {
    grant: StoredGrant
    account: Account
  },
  {
    gty,
    family,
    bound,
    resource,
    scopes,
    details,
  }: {
    gty: string
    family: string | undefined
    bound: DecidedKeys
    resource: FoundResource | undefined
    scopes: ReadonlySet<string>
    details: readonly AuthorizationDetail[] | undefined
  },
): AccessTokenPlan {
  const { accountId, grantId, sessionUid, expiresWithSession, sid } = source
  const scope = resource
    ? grantedScopesOf(grant, resource.identifier, common(scopes, resource.scopes))
    : grantedScopes(grant, scopes)
  return {
    kind: 'AccessToken',
    clientId: client.clientId,
    accountId,
    bound,
    scope,
    resource,
    details,
    extra: {
      ...mappedClaims(account, claimMappings, {
        clientId: client.clientId,
        scopes: scope.split(' '),
      }),
      ...(sessionUid !== undefined && sessionBindingClaim(browserSession)),
    },
    stored: {
      gty,
      family,
      grantId,
      sessionUid,
      expiresWithSession,
      sid,
      claims: source.claims,
    },
  }
}

/** The ID token of a person's grant (OpenID Connect Core section 3.1.3.3), if one was asked for. */
export function idTokenOf(
  { client }: { client: TokenClient },
  found: Found<StoredSource> & { grant: StoredGrant; account: Account },
  {
    scopes,
    hasAudience,
    isElsewhere,
    policy,
    claims,
  }: {
    scopes: ReadonlySet<string>
    /** Whether the access token is for another server: then it cannot get the claims of UserInfo. */
    hasAudience: boolean
    /** Whether the person signed in on another device. */
    isElsewhere: boolean
    policy: TokenPolicy
    /** Everything that is known of the account. */
    claims: Readonly<Record<string, unknown>>
  },
): IdTokenPlan | Refusal | undefined {
  const { source, grant, browserSession, account, claimMappings } = found
  if (!scopes.has('openid')) return undefined
  if (client.bindsIdTokens && source.referredTbh === undefined) {
    // The client asked for bound ID tokens after this sign-in.
    return refuse('id_token_unbound', { description: 'the sign-in was not bound to a browser' })
  }
  const getsAll = hasAudience || client.getsClaimsInIdTokens
  const ofScopes = getsAll ? grantedScopes(grant, scopes).split(' ') : ['openid']
  const requested = grantedClaims(grant, source.claims?.id_token ?? {})
  const rejected = rejectedClaims(grant)
  const included = [
    ...ofScopes.flatMap((scope) => policy.claimsByScope[scope] ?? []),
    ...Object.keys(requested).filter((claim) => isClaimRequest(requested[claim])),
  ].filter((claim) => !rejected.has(claim))
  const { acr, amr, authTime: auth_time } = source
  const available: Record<string, unknown> = { ...claims, acr, amr, auth_time }
  const { cnf, ...ofSession } =
    source.sessionUid === undefined ? {} : sessionClaimsOfIdToken(browserSession, isElsewhere)
  const tbh = client.bindsIdTokens ? { tbh: source.referredTbh } : undefined
  return {
    algorithm: client.idTokenAlgorithm,
    claims: {
      ...mappedClaims(account, claimMappings, { clientId: client.clientId, scopes: ofScopes }),
      sub: source.accountId,
      ...Object.fromEntries(
        included
          .filter((claim) => isKnownClaim(policy, claim))
          .map((claim) => [claim, available[claim]]),
      ),
      nonce: source.nonce,
      sid: source.sid,
      ...ofSession,
      ...((cnf || tbh) && { cnf: { ...tbh, ...cnf } }),
    },
  }
}

/** What OpenID Connect Core section 5.5.1 lets a claim be asked for by. */
function isClaimRequest(value: unknown): boolean {
  return value === null || (typeof value === 'object' && !Array.isArray(value))
}

/** Claims about the sign-in and not about the person, which only a request by name includes. */
const claimsOfSignIn = new Set(['acr', 'amr', 'auth_time'])

function isKnownClaim({ claimsByScope }: TokenPolicy, claim: string): boolean {
  return (
    claimsOfSignIn.has(claim) || Object.values(claimsByScope).some((known) => known.includes(claim))
  )
}

/** Signs a JWT; RSA does so in the thread pool. */
export type SignJwt = (
  algorithm: SigningAlgorithm,
  typ: string | undefined,
  claims: object,
) => string | Promise<string>

export interface Maker {
  readonly policy: TokenPolicy
  readonly sign: SignJwt
  /** A name that nobody can guess: of 256 random bits. */
  readonly newName: () => string
}

/** The answer of RFC 6749 section 5.1. */
export interface TokenAnswer {
  readonly access_token: string
  readonly expires_in: number
  readonly token_type: 'DPoP' | 'Bearer'
  readonly id_token?: string
  readonly refresh_token?: string
  readonly scope?: string
  readonly authorization_details?: readonly AuthorizationDetail[]
}

export interface Issued {
  readonly written: readonly Artifact[]
  readonly answer: TokenAnswer
}

/** Makes the tokens of a grant. Nothing is written by it. */
export async function makeTokens(issue: Issue, maker: Maker, now: number): Promise<Issued> {
  const access = accessToken(issue.accessToken, maker, now)
  const refresh = issue.refreshToken && refreshToken(issue.refreshToken, maker, now)
  const idToken = issue.idToken && signIdToken(issue, issue.idToken, maker, now)
  const answer = {
    access_token: typeof access.value === 'string' ? access.value : await access.value,
    expires_in: access.expiresIn,
    id_token: typeof idToken === 'string' ? idToken : await idToken,
    refresh_token: refresh?.value,
    scope: issue.scope,
    authorization_details: issue.accessToken.details,
    token_type: issue.accessToken.bound.jkt ? 'DPoP' : 'Bearer',
  } as const
  return {
    written: [access.row, refresh?.row].filter((row) => row !== undefined),
    // JSON leaves out what is undefined.
    answer: answer as TokenAnswer,
  }
}

function accessToken(plan: AccessTokenPlan, { policy, sign, newName }: Maker, now: number) {
  const { kind, clientId, accountId, bound, scope, resource, details, extra, stored } = plan
  const expiresIn = policy.lifetimes[kind]
  const times = { iat: now, exp: now + expiresIn }
  const value = newName()
  if (resource) {
    // RFC 9068 section 2.2.
    const claims = {
      ...extra,
      jti: value,
      sub: accountId ?? clientId,
      ...times,
      scope: scope || undefined,
      authorization_details: details,
      client_id: clientId,
      iss: policy.issuer,
      aud: resource.audience,
      cnf: confirmationOf(bound),
    }
    return { value: sign(resource.algorithm, 'at+jwt', claims), row: undefined, expiresIn }
  }
  const added = extra && Object.keys(extra).length > 0 ? { extra } : {}
  const payload = { ...times, kind, clientId, accountId, ...bound, scope, ...added, ...stored }
  return { value, row: rowOf(kind, value, payload), expiresIn }
}

function refreshToken(plan: RefreshTokenPlan, { policy, newName }: Maker, now: number) {
  const value = plan.value ?? newName()
  const payload = {
    ...plan.payload,
    ...plan.bound,
    ...(plan.isRepeatable && { succession: newName() }),
    kind: 'RefreshToken',
    iiat: plan.payload.iiat ?? now,
    iat: now,
    exp: now + (plan.isKept ? policy.lifetimes.Grant : policy.lifetimes.RefreshToken),
  }
  return { value, row: rowOf('RefreshToken', value, payload) }
}

function signIdToken(
  { accessToken: { clientId } }: Issue,
  { algorithm, claims }: IdTokenPlan,
  { policy: { issuer, lifetimes }, sign }: Maker,
  now: number,
) {
  const registered = { aud: clientId, exp: now + lifetimes.IdToken, iat: now, iss: issuer }
  return sign(algorithm, undefined, { ...claims, ...registered })
}

/** The row of a token, which is known by the digest of its value. */
function rowOf(
  kind: string,
  value: string,
  payload: Readonly<Record<string, unknown>> & { readonly exp: number },
): Artifact {
  return {
    ...artifactKey(kind, value),
    grantId: payload.grantId as string | undefined,
    uid: undefined,
    accountId: payload.accountId as string | undefined,
    sessionUid: payload.sessionUid as string | undefined,
    familyId: payload.family as string | undefined,
    clientId: payload.clientId as string | undefined,
    payload,
    expiresAt: payload.exp,
  }
}

/** The member `cnf` (RFC 7800) for the keys of a token; undefined for a bearer token. */
export function confirmationOf(bound: BoundCredential): Record<string, string> | undefined {
  let members: Record<string, string> | undefined
  for (const name of confirmations) {
    const key = bound[name]
    if (key !== undefined) members = { ...members, [name]: key }
  }
  return members
}

function common(some: ReadonlySet<string>, others: ReadonlySet<string>): ReadonlySet<string> {
  return new Set([...some].filter((each) => others.has(each)))
}
