/** What codes, tokens and grants are stored as: the members that token requests look at. */

import type { AuthorizationDetail } from '../authorization-details/authorization-details.ts'
import type { BoundCredential } from '../bindings/binding.ts'
import type { Account } from '../storage/account-store.ts'
import type { ArtifactKey } from '../storage/artifact-table.ts'
import type { BrowserSession } from '../storage/browser-session-table.ts'
import type { ClaimMapping } from '../storage/claim-mapping-table.ts'

/** What a person has let a client do (the engine's Grant). */
export interface StoredGrant extends GrantedParts {
  readonly accountId: string
  readonly clientId: string
  /** What the person has refused of it. */
  readonly rejected?: GrantedParts
  /** Seconds since the epoch. */
  readonly exp?: number
}

interface GrantedParts {
  readonly openid?: { readonly scope?: string; readonly claims?: readonly string[] }
  /** Scopes by resource. */
  readonly resources?: Readonly<Record<string, string>>
}

/** The `claims` parameter of the authorization request (OpenID Connect Core section 5.5). */
export type ClaimsRequest = Readonly<
  Partial<Record<'id_token' | 'userinfo', Readonly<Record<string, unknown>>>>
>

/** What codes, device codes and refresh tokens have in common: where tokens come from. */
export interface StoredSource {
  readonly clientId: string
  readonly accountId?: string
  readonly grantId?: string
  readonly sessionUid?: string
  readonly expiresWithSession?: boolean
  readonly acr?: string
  readonly amr?: readonly string[]
  readonly authTime?: number
  readonly claims?: ClaimsRequest
  readonly nonce?: string
  readonly resource?: string | readonly string[]
  readonly scope?: string
  /** The authorization details (RFC 9396) that a person has granted with it. */
  readonly rar?: readonly AuthorizationDetail[]
  readonly sid?: string
  /** Seconds since the epoch. */
  readonly exp: number
  /** `tbh` of the browser at the client, from the authorization request. */
  readonly referredTbh?: string
}

export interface StoredCode extends StoredSource {
  readonly codeChallenge?: string
  readonly codeChallengeMethod?: string
  readonly redirectUri?: string
  readonly dpopJkt?: string
}

export interface StoredDeviceCode extends StoredSource, BoundCredential {
  readonly error?: string
  readonly errorDescription?: string
}

export interface StoredBackchannelRequest extends StoredSource, BoundCredential {
  /** Thumbprint (RFC 7638) of the key of its client's assertion, where it was bound to no other. */
  readonly clientKey?: string
  /** How the person has decided, if not by a grant. */
  readonly error?: string
}

export interface StoredRefreshToken extends StoredSource, BoundCredential {
  readonly gty?: string
  /** The chain of one authorization that it belongs to. */
  readonly family?: string
  readonly rotations?: number
  readonly iat?: number
  readonly iiat?: number
  /** The key that may take over. */
  readonly successor?: Successor
  /** Random bytes from which, with the token, its successor is made. */
  readonly succession?: string
}

/** The key that may take over, and until when, in seconds since the epoch. */
export interface Successor {
  readonly confirmation: string
  readonly until: number
}

/** A credential that was found, with what it depends on: all of one moment. */
export interface Found<Source extends StoredSource> {
  /** As the client has it. */
  readonly value: string
  readonly key: ArtifactKey
  readonly source: Source
  /** Seconds since the epoch, or null. */
  readonly consumedAt: number | null
  readonly grant: StoredGrant | undefined
  /** The engine's copy of the session that it comes from. */
  readonly session: { readonly accountId?: string } | undefined
  /** The row of that session, if it is alive. */
  readonly browserSession: BrowserSession | undefined
  readonly account: Account | undefined
  /** Of this server, for its clients and scopes. */
  readonly claimMappings: readonly ClaimMapping[]
}
