/** What every peer is asked for. The words are those of the JSON that the benchmark prints. */
export const peers = ['holdfast', 'knex', 'memory'] as const
export type Peer = (typeof peers)[number]

export const grants = ['client_credentials', 'refresh'] as const
export type Grant = (typeof grants)[number]

export const methods = ['basic', 'private_key_jwt'] as const
/** `bearer` authenticates like `basic`, and its tokens are bound to nothing: for comparison. */
export type Method = (typeof methods)[number] | 'bearer'

/** Access tokens are ES256 JWTs for this API; a refresh rotates and issues no ID token. */
export const api = 'https://api.example'
export const accountId = 'ada'

export function clientMetadata(method: Method, jwk: object) {
  return {
    client_id: `bench-${method}`,
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
    response_types: ['code' as const],
    redirect_uris: ['https://app.example/callback'],
    id_token_signed_response_alg: 'ES256' as const,
    ...(method === 'bearer' ? { binding_method: 'bearer' } : { dpop_bound_access_tokens: true }),
    ...(method !== 'private_key_jwt'
      ? { token_endpoint_auth_method: 'client_secret_basic' as const }
      : { token_endpoint_auth_method: 'private_key_jwt' as const, jwks: { keys: [jwk] } }),
  }
}

/** A running peer, in its own process. */
export interface Candidate extends AsyncDisposable {
  readonly issuer: string
  readonly clientSecret: string
  /** Of the client `bench-bearer`, where there is one. */
  readonly bearerSecret?: string | undefined
  /** Refresh tokens as an authorization with `offline_access` leaves them, bound to one key. */
  makeRefreshTokens(clientId: string, jkt: string, count: number): Promise<string[]>
  /** SQL statements sent so far. */
  countStatements(): number
}

export interface CandidateOptions {
  readonly databaseUrl: string
  readonly port: number
  readonly clientJwk: object
}
