import type Provider from 'oidc-provider'
import { type ClientMetadata, errors } from 'oidc-provider'
import { subjectProperties } from '../certificates/subject.ts'
import { bindingOf } from '../clients/binding-method.ts'
import { type ClientKey, importClientKey } from '../clients/client-keys.ts'
import { ownScopesOf, scopesAtResource } from '../clients/client-scopes.ts'
import { matchesSecret } from '../clients/client-secret.ts'
import { allowedAlgorithms, type Profile, profileOf, refreshPolicyOf } from '../clients/profile.ts'
import type { SigningAlgorithm } from '../config/signing-algorithms.ts'
import { proofAlgorithms } from '../engine/proof-algorithms.ts'
import { mayCallFrom } from '../engine/provider.ts'
import { type FetchProblem, findFetchProblem } from '../net/fetch-problem.ts'
import { isDocumentId } from '../storage/client-document-table.ts'
import type { ClientTable } from '../storage/client-table.ts'
import { isRefusal, type Refusal, refuse } from './refusal.ts'
import type { ClientAuthenticationMethod, ClientKeys, TokenClient } from './token-request.ts'

/** The engine's client, as far as it is used here: its metadata with the defaults of this release. */
interface EngineClient {
  readonly clientId: string
  readonly clientSecret?: string
  readonly clientSecretExpiresAt?: number
  readonly tokenEndpointAuthMethod: string
  readonly tokenEndpointAuthSigningAlg?: string
  readonly grantTypes: readonly string[]
  readonly redirectUris?: readonly string[]
  readonly idTokenSignedResponseAlg: string
  readonly introspectionSignedResponseAlg: string
  readonly binding_method: string
  readonly id_token_token_binding_cnf?: string
  readonly self_registered?: boolean
  readonly require_pkce?: boolean
  readonly require_nonce?: boolean
  readonly endpoint_audience?: boolean
  readonly id_token_claims?: boolean
  readonly asymmetricKeyStore: EngineKeyStore
  metadata(): ClientMetadata
}

/** The keys of a client; those at a `jwks_uri` are fetched by the engine, with its limits. */
interface EngineKeyStore extends Iterable<Readonly<Record<string, unknown>>> {
  fresh(): boolean
  refresh(): Promise<void>
}

/**
 * Finds clients. What is made of one is remembered by the metadata that it was made of: the table
 * remembers that for some seconds. One that contradicts its profile is refused.
 */
export function createClientFinder(
  engine: Provider,
  table: Pick<ClientTable, 'find'>,
  profile?: Profile,
) {
  const byMetadata = new WeakMap<ClientMetadata, TokenClient>()
  const byClient = new WeakMap<EngineClient, TokenClient>()
  return async (clientId: string): Promise<TokenClient | Refusal | undefined> => {
    const metadata = await findMetadata(table, clientId)
    if (metadata && isRefusal(metadata)) return metadata
    const known = metadata && byMetadata.get(metadata)
    if (known) return known
    // The engine would have it fetched.
    if (!metadata && isDocumentId(clientId)) return undefined
    const found = await findValid(engine, clientId)
    if (!found || 'refused' in found) return found
    const client = byClient.get(found) ?? asTokenClient(found, metadata, profile)
    byClient.set(found, client)
    if (metadata) byMetadata.set(metadata, client)
    return client
  }
}

/** What is stored of a client, or why the document of one cannot be used. */
async function findMetadata(
  table: Pick<ClientTable, 'find'>,
  clientId: string,
): Promise<ClientMetadata | Refusal | undefined> {
  try {
    return await table.find(clientId)
  } catch (cause) {
    if (!(cause instanceof errors.InvalidClient)) throw cause
    return refuse('client_metadata', { description: cause.error_description })
  }
}

/** The client, if its metadata is what this server accepts today. */
async function findValid(
  engine: Provider,
  clientId: string,
): Promise<EngineClient | Refusal | undefined> {
  try {
    return (await engine.Client.find(clientId)) as unknown as EngineClient | undefined
  } catch (cause) {
    if (!(cause instanceof errors.InvalidClientMetadata)) throw cause
    return refuse('client_metadata', { description: cause.error_description })
  }
}

/** @param registered what is stored of it, without the defaults of this release. */
function asTokenClient(
  client: EngineClient,
  registered: ClientMetadata | undefined,
  ofServer: Profile | undefined,
): TokenClient {
  const metadata = client.metadata()
  const profile = profileOf(metadata, ofServer)
  const property = subjectProperties.find((name) => metadata[name])
  const { tokenEndpointAuthMethod: clientAuthMethod, redirectUris } = client
  return Object.freeze({
    clientId: client.clientId,
    authenticatesBy: client.tokenEndpointAuthMethod as ClientAuthenticationMethod,
    sendsSecretEitherWay:
      registered !== undefined && registered.token_endpoint_auth_method === undefined,
    hasSecret: (secret: string) => matchesSecret(secret, client.clientSecret),
    secretExpiresAt: client.clientSecretExpiresAt || undefined,
    keys: keysOf(client.asymmetricKeyStore),
    algorithms: allowedAlgorithms(profile, proofAlgorithms),
    assertionAlgorithm: client.tokenEndpointAuthSigningAlg,
    certificateSubject: property && { property, value: String(metadata[property]) },
    grantTypes: new Set(client.grantTypes),
    requiresPkce: client.require_pkce !== false || client.tokenEndpointAuthMethod === 'none',
    requiresNonce: client.require_nonce !== false,
    mayNameEndpoints: client.endpoint_audience === true,
    binding: bindingOf(client),
    refreshTokens: refreshPolicyOf(metadata, ofServer),
    // RFC 9449 section 5: those of a client that authenticates by a key are bound by that.
    refreshTokensBoundTo: profile ? 'client' : 'key',
    scopes: ownScopesOf(metadata),
    scopesAt: (scopes: readonly string[], openScopes?: readonly string[]) =>
      scopesAtResource(metadata, scopes, openScopes),
    defaultResource: metadata.default_resource,
    defaultScopes: metadata.default_scope?.split(' ') ?? [],
    idTokenAlgorithm: client.idTokenSignedResponseAlg as SigningAlgorithm,
    getsClaimsInIdTokens: client.id_token_claims === true,
    introspectionAlgorithm: client.introspectionSignedResponseAlg as SigningAlgorithm,
    bindsIdTokens: client.id_token_token_binding_cnf !== undefined,
    selfRegistered: client.self_registered === true,
    administration: metadata.administration,
    mayBeCalledFrom: (origin: string) =>
      mayCallFrom(undefined, origin, { clientAuthMethod, redirectUris }),
  })
}

function keysOf(store: EngineKeyStore): ClientKeys {
  const imported = new WeakMap<object, ClientKey | 'unusable'>()
  const importOnce = (jwk: Readonly<Record<string, unknown>>) => {
    const key = imported.get(jwk) ?? importClientKey(jwk) ?? 'unusable'
    imported.set(jwk, key)
    return key
  }
  return {
    current: () => Array.from(store, importOnce).filter((key) => key !== 'unusable'),
    certificates: () => Array.from(store, (jwk) => jwk['x5t#S256']),
    async refresh() {
      if (store.fresh()) return 'same'
      try {
        await store.refresh()
        return 'fetched'
      } catch (error) {
        return findFetchProblem(error) ?? unreadableKeys
      }
    },
  }
}

/** What the engine refuses of a key set that was fetched. */
const unreadableKeys: FetchProblem = {
  forClient: 'the keys of the client could not be read',
  forOperator: 'the keys of the client could not be read',
}
