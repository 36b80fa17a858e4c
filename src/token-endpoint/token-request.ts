import type { Binding, Proofs } from '../bindings/binding.ts'
import type { SubjectProperty } from '../certificates/subject.ts'
import type { ClientKey } from '../clients/client-keys.ts'
import type { RefreshPolicy } from '../clients/profile.ts'
import type { SigningAlgorithm } from '../config/signing-algorithms.ts'
import type { FetchProblem } from '../net/fetch-problem.ts'
import type { ReplayEntry } from '../storage/replay-table.ts'
import type { RefusalReason } from './refusal.ts'

/** How clients authenticate at this server (OpenID Connect Core section 9, RFC 8705 section 2). */
export type ClientAuthenticationMethod =
  | 'none'
  | 'client_secret_basic'
  | 'client_secret_post'
  | 'private_key_jwt'
  | 'tls_client_auth'
  | 'self_signed_tls_client_auth'

/** The keys of a client, which may be at a URL of its own. */
export interface ClientKeys {
  /** Those that are known now. */
  current(): readonly ClientKey[]
  /** `x5t#S256` of the certificates that keys came with. */
  certificates(): readonly unknown[]
  /**
   * Fetches them again, if they are at a URL and what was fetched is no longer fresh.
   *
   * @returns whether there is anything to try again with, or why the fetch has failed.
   */
  refresh(): Promise<'same' | 'fetched' | FetchProblem>
}

/** What the machine endpoints know of a client. */
export interface TokenClient {
  readonly clientId: string
  readonly authenticatesBy: ClientAuthenticationMethod
  /** Whether it has named no method: then it may send its secret either way. */
  readonly sendsSecretEitherWay: boolean
  /** Whether a secret is the client's. */
  readonly hasSecret: (secret: string) => boolean
  /** Seconds since the epoch; undefined for a secret that does not expire. */
  readonly secretExpiresAt: number | undefined
  readonly keys: ClientKeys
  /** Algorithms that its assertions and proofs may have. */
  readonly algorithms: readonly string[]
  /** The only algorithm of its assertions, if it has registered one. */
  readonly assertionAlgorithm: string | undefined
  /** The name that its certificate must have (RFC 8705 section 2.1.2). */
  readonly certificateSubject:
    | { readonly property: SubjectProperty; readonly value: string }
    | undefined
  readonly grantTypes: ReadonlySet<string>
  /** False for a client that an administrator has excused from PKCE, where it sends a nonce. */
  readonly requiresPkce: boolean
  /** False for one that an administrator has excused from that nonce as well. */
  readonly requiresNonce: boolean
  /** Whether its assertions may be for an endpoint instead of the issuer. */
  readonly mayNameEndpoints: boolean
  /** How its tokens are bound; bearer tokens are those that it has asked for by name. */
  readonly binding: Binding | 'bearer'
  /** What becomes of its refresh tokens when they are used. */
  readonly refreshTokens: RefreshPolicy
  /** What its refresh tokens are bound to: the key of its tokens, or the one that it authenticates by. */
  readonly refreshTokensBoundTo: 'key' | 'client'
  /** The API of a request that names none. */
  readonly defaultResource: string | undefined
  /** The scopes of a request that names none. */
  readonly defaultScopes: readonly string[]
  /** The only scopes of OpenID Connect that it may ask for, if it has registered any. */
  readonly scopes: ReadonlySet<string> | undefined
  /** Those scopes of an API that it may have; undefined where it may have no token for the API. */
  readonly scopesAt: (
    scopes: readonly string[],
    /** Those that are open to clients which nobody has let in. */
    openScopes?: readonly string[],
  ) => readonly string[] | undefined
  readonly idTokenAlgorithm: SigningAlgorithm
  /** Whether its ID tokens have the claims of all scopes, and not only UserInfo (`id_token_claims`). */
  readonly getsClaimsInIdTokens: boolean
  readonly introspectionAlgorithm: SigningAlgorithm
  /** Whether its ID tokens are bound to the browser's Token Binding ID. */
  readonly bindsIdTokens: boolean
  /** What it may do at the admin API, as it was registered. */
  readonly administration: string | undefined
  /** Whether it has registered itself: nobody here has looked at what it says. */
  readonly selfRegistered: boolean
  /** Whether scripts of an origin may call as this client. */
  readonly mayBeCalledFrom: (origin: string) => boolean
}

/** A one-time value that a request has shown, and why it is refused if it was seen before. */
export interface UsedJti {
  readonly entry: ReplayEntry
  readonly replayed: Extract<RefusalReason, 'assertion_replayed' | 'dpop_replayed'>
}

/** A request for tokens whose client has authenticated and whose proofs are good. */
export interface TokenRequest {
  readonly client: TokenClient
  /** The parameters of its grant, each once. */
  readonly params: Readonly<Record<string, string | undefined>>
  /** RFC 8707: the one parameter that may come several times. */
  readonly resources: readonly string[]
  readonly proofs: Proofs
  /** Thumbprint (RFC 7638) of the key of its assertion, if its client has authenticated by one. */
  readonly assertionKey?: string | undefined
  /** The public address that the request came to. */
  readonly uri: string
  /** Seconds since the epoch. */
  readonly now: number
}

/** The scopes that a request names. */
export function requestedScopes({ params: { scope } }: TokenRequest): readonly string[] {
  return scope === undefined ? [] : scope.split(' ')
}
