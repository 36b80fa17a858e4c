import type { ClientMetadata } from 'oidc-provider'
import type { PasswordCost } from '../../../src/accounts/password.ts'

/** What every peer is asked for. The words are those of the JSON that the benchmark prints. */
export const peers = ['holdfast', 'knex', 'memory', 'hand'] as const
export type Peer = (typeof peers)[number]

export const grants = [
  'client_credentials',
  'refresh_token',
  'authorization_code',
  'device_code',
  'introspection',
] as const
export type Grant = (typeof grants)[number]

export const methods = [
  'client_secret_basic',
  'client_secret_post',
  'private_key_jwt',
  'none',
  'self_signed_tls_client_auth',
] as const
export type Method = (typeof methods)[number]

export const bindings = ['dpop', 'none', 'mtls'] as const
export type Binding = (typeof bindings)[number]

/** A way of asking: what is asked for, who asks, and what the tokens are bound to. */
export interface Way {
  readonly grant: Grant
  readonly method: Method
  readonly binding: Binding
}

export const nameOf = ({ grant, method, binding }: Way) => `${grant}_${method}_${binding}`

/**
 * Every grant with every method and a proof, and with every binding by one method. A client without
 * a secret has no client credentials, and an API that asks about tokens shows no proof.
 */
export const ways: readonly Way[] = grants.flatMap((grant) =>
  methods.flatMap((method) =>
    bindings.flatMap((binding) =>
      exists(grant, method, binding) ? [{ grant, method, binding }] : [],
    ),
  ),
)

function exists(grant: Grant, method: Method, binding: Binding): boolean {
  if (grant === 'introspection') {
    return binding === 'none' && (method === 'client_secret_basic' || method === 'private_key_jwt')
  }
  if (method === 'none' && grant === 'client_credentials') return false
  if (binding === 'none') return method === 'client_secret_basic'
  return binding === 'dpop' || method === 'self_signed_tls_client_auth'
}

/** Of these alone it is measured what a grant costs that comes alone. */
export function isMeasuredAlone({ grant, method, binding }: Way): boolean {
  const isByHand = method === 'client_secret_basic' || method === 'private_key_jwt'
  return (
    isByHand && binding === 'dpop' && (grant === 'client_credentials' || grant === 'refresh_token')
  )
}

/** What is written by hand is that much, and the others are all. */
export function canDo(peer: Peer, way: Way): boolean {
  return peer !== 'hand' || isMeasuredAlone(way)
}

/** Access tokens are ES256 JWTs for this API; a refresh rotates and issues no ID token. */
export const api = 'https://api.example'
export const accountId = 'ada'
export const emailOf = (person: number) => `person-${person}@example.com`
export const password = 'correct horse battery staple'
export const redirectUri = 'https://app.example/callback'
/** Of PKCE (RFC 7636): the same for every code. */
export const codeVerifier = 'v'.repeat(43)

export const deviceGrant = 'urn:ietf:params:oauth:grant-type:device_code'

export type Client = Pick<Way, 'method' | 'binding'>

export const clientIdOf = ({ method, binding }: Client) => `bench-${method}-${binding}`

/** Every client that one of the ways needs. */
export const clients: readonly Client[] = [
  ...new Map(
    ways.map(({ method, binding }) => [clientIdOf({ method, binding }), { method, binding }]),
  ).values(),
]

/** The public parts of the keys of all clients. */
export interface ClientKeys {
  readonly jwk: object
  /** The same for the key of the certificate, with the certificate. */
  readonly certified: object
}

export function clientMetadata(client: Client, keys: ClientKeys) {
  const { method, binding } = client
  const isPublic = method === 'none'
  return {
    client_id: clientIdOf(client),
    grant_types: [
      'authorization_code',
      'refresh_token',
      deviceGrant,
      ...(isPublic ? [] : ['client_credentials']),
    ],
    response_types: ['code' as const],
    redirect_uris: [redirectUri],
    id_token_signed_response_alg: 'ES256' as const,
    token_endpoint_auth_method: method,
    ...(method === 'private_key_jwt' && { jwks: { keys: [keys.jwk] } }),
    ...(method === 'self_signed_tls_client_auth' && { jwks: { keys: [keys.certified] } }),
    ...(binding === 'none' && { binding_method: 'bearer' }),
    ...(binding === 'dpop' && { dpop_bound_access_tokens: true }),
    ...(binding === 'mtls' && { tls_client_certificate_bound_access_tokens: true }),
  } as ClientMetadata
}

/** What is made before a request that uses it. */
export type Kind = 'RefreshToken' | 'AuthorizationCode' | 'DeviceCode' | 'AccessToken'

export const kindOf: Partial<Record<Grant, Kind>> = {
  refresh_token: 'RefreshToken',
  authorization_code: 'AuthorizationCode',
  device_code: 'DeviceCode',
  introspection: 'AccessToken',
}

export interface CredentialOrder {
  readonly kind: Kind
  readonly clientId: string
  readonly count: number
  /** The key that they are bound to. */
  readonly bound: { readonly jkt?: string; readonly 'x5t#S256'?: string }
}

/** A running peer, in its own process. */
export interface Candidate extends AsyncDisposable {
  readonly issuer: string
  /** By client. */
  readonly secrets: Readonly<Record<string, string>>
  /** Codes and tokens as an authorization with `offline_access` leaves them. */
  makeCredentials(order: CredentialOrder): Promise<string[]>
  /** SQL statements sent so far. */
  countStatements(): number
  /** Their names since the last call; of Holdfast alone. */
  takeStatements?(): string[]
}

export interface CandidateOptions {
  /** People with a password, beside Ada, who has none; of Holdfast alone. */
  readonly people?: { readonly count: number; readonly cost: PasswordCost }
  readonly databaseUrl: string
  readonly port: number
  readonly clientKeys: ClientKeys
}
