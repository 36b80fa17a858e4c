/** A token that someone asks about or wants to end. */
import type { BoundCredential } from '../bindings/binding.ts'
import { artifactKey } from '../storage/artifact-table.ts'
import type { CredentialLookup } from '../storage/credential-lookup.ts'
import type { ReplayEntry, ReplayTable } from '../storage/replay-table.ts'
import type { ClientAuthenticationOptions } from './client-authentication.ts'
import {
  authenticate,
  type MachineRequest,
  type Outcome,
  readToken,
  recordUsedJtis,
} from './machine-request.ts'
import { isRefusal, refuse } from './refusal.ts'
import type { Found, StoredSource } from './stored.ts'
import type { TokenClient } from './token-request.ts'

/** What is stored of a token. */
export interface StoredToken extends StoredSource, BoundCredential {
  /** Undefined for tokens that a release without families has issued. */
  readonly family?: string
  readonly iat?: number
  readonly aud?: string
  readonly extra?: Readonly<Record<string, unknown>>
}

/** The claims of an access token that this server has signed. */
export interface OwnClaims {
  readonly jti: string
  readonly sub: string
  readonly client_id: string
  /** Seconds since the epoch. */
  readonly exp: number
  readonly cnf?: BoundCredential
}

/** Reads a JWT access token of this server that has not expired; undefined for anything else. */
export type ReadOwnToken = (token: string, now: number) => OwnClaims | undefined

const kinds = ['AccessToken', 'ClientCredentials', 'RefreshToken'] as const

export type FoundToken =
  | { readonly kind: (typeof kinds)[number]; readonly found: Found<StoredToken> }
  | {
      readonly kind: 'JWT'
      readonly claims: OwnClaims
      /** Whether nobody has revoked it, and its client and account are still there. */
      readonly isActive: boolean
    }

/**
 * Finds a token, and records a one-time value of the request that asks: `replayed` where another
 * one has shown it before.
 */
export type FindToken = (
  token: string,
  now: number,
  entry?: ReplayEntry,
) => Promise<FoundToken | 'replayed' | undefined>

/** The row that says that a JWT access token was revoked. It is there until the token expires. */
export const revokedToken = 'RevokedAccessToken'

/** Finds tokens of every kind, in one statement; a hint is not needed. */
export function createTokenFinder({
  credentials,
  readOwnToken,
  findClient,
}: {
  credentials: CredentialLookup
  readOwnToken: ReadOwnToken
  findClient: (clientId: string) => Promise<TokenClient | undefined>
}): FindToken {
  return async (token, now, entry) => {
    const claims = readOwnToken(token, now)
    if (claims) {
      const { jti, sub, client_id: client } = claims
      const account = sub === client ? undefined : sub
      const [state, known] = await Promise.all([
        credentials.stateOf(artifactKey(revokedToken, jti), account, entry),
        findClient(client),
      ])
      if (state === 'replayed') return state
      return { kind: 'JWT', claims, isActive: state === 'active' && known !== undefined }
    }
    const keys = kinds.map((kind) => artifactKey(kind, token))
    const rows = await (entry
      ? credentials.findOnce<StoredToken>(keys, entry)
      : Promise.all(keys.map((key) => credentials.find<StoredToken>(key))))
    if (rows === 'replayed') return rows
    const at = rows.findIndex((row) => row !== undefined)
    const [kind, key, row] = [kinds[at], keys[at], rows[at]]
    // Nothing is issued for it: it needs no mappings.
    return kind && key && row && { kind, found: { ...row, claimMappings: [], value: token, key } }
  }
}

/** The client that a token was issued to. */
export function clientOf(token: FoundToken): string {
  return token.kind === 'JWT' ? token.claims.client_id : token.found.source.clientId
}

/** What is needed to serve a question about a token. */
export interface QuestionOptions {
  readonly authentication: ClientAuthenticationOptions
  readonly findToken: FindToken
  readonly replays: Pick<ReplayTable, 'insert'>
}

/** Who asks about which token (RFC 7662 section 2.1, RFC 7009 section 2.1), or why not. */
export async function readQuestion(
  request: MachineRequest,
  { authentication, findToken, replays }: QuestionOptions,
): Promise<{ readonly client: TokenClient; readonly found: FoundToken | undefined } | Outcome> {
  const caller = await authenticate(request, authentication)
  if (!('usedJtis' in caller)) return caller
  const { client, usedJtis } = caller
  const read = readToken(request)
  if (isRefusal(read)) {
    return { client, result: (await recordUsedJtis(usedJtis, replays)) ?? read }
  }
  // The assertion, if the client has authenticated by one.
  const [shown] = usedJtis
  const found = await findToken(read.token, request.now, shown?.entry)
  if (found === 'replayed') {
    return { client, result: refuse(shown?.replayed ?? 'assertion_replayed') }
  }
  return { client, found }
}
