/**
 * Every way to be refused: a stable code for operators, tests and dashboards, the HTTP status, and
 * the OAuth error that may be shown to the client. A code never changes its meaning.
 */
const refusals = {
  // Where the token came from (RFC 6750 sections 2 and 3.1).
  credentials_missing: { status: 401 },
  credentials_multiple: { status: 400, error: 'invalid_request' },
  credentials_malformed: { status: 400, error: 'invalid_request' },
  credentials_location: { status: 400, error: 'invalid_request' },
  facts_refused: { status: 400, error: 'invalid_request' },

  // The access token itself (RFC 9068 section 4, RFC 7662).
  token_too_large: { status: 401, error: 'invalid_token' },
  token_malformed: { status: 401, error: 'invalid_token' },
  token_type: { status: 401, error: 'invalid_token' },
  token_encryption: { status: 401, error: 'invalid_token' },
  token_issuer: { status: 401, error: 'invalid_token' },
  token_audience: { status: 401, error: 'invalid_token' },
  token_algorithm: { status: 401, error: 'invalid_token' },
  token_key: { status: 401, error: 'invalid_token' },
  token_signature: { status: 401, error: 'invalid_token' },
  token_expired: { status: 401, error: 'invalid_token' },
  token_not_yet_valid: { status: 401, error: 'invalid_token' },
  token_claims: { status: 401, error: 'invalid_token' },
  token_inactive: { status: 401, error: 'invalid_token' },
  token_revoked: { status: 401, error: 'invalid_token' },

  // ID tokens (OpenID Connect Core section 3.1.3.7); the other codes of tokens hold for them too.
  id_token_nonce: { status: 401, error: 'invalid_token' },

  // What the token is bound to (RFC 7800, RFC 8705 section 3, RFC 9449 section 7).
  confirmation_malformed: { status: 401, error: 'invalid_token' },
  confirmation_unknown: { status: 401, error: 'invalid_token' },
  confirmation_method: { status: 401, error: 'invalid_token' },
  bearer_refused: { status: 401, error: 'invalid_token' },
  scheme_mismatch: { status: 401, error: 'invalid_token' },
  dpop_token_leaked: { status: 401, error: 'invalid_token' },
  certificate_missing: { status: 401, error: 'invalid_token' },
  certificate_mismatch: { status: 401, error: 'invalid_token' },
  certificate_weak: { status: 401, error: 'invalid_token' },
  token_binding_missing: { status: 401, error: 'invalid_token' },
  token_binding_mismatch: { status: 401, error: 'invalid_token' },

  // The DPoP proof, in the order of RFC 9449 section 4.3.
  dpop_missing: { status: 401, error: 'invalid_dpop_proof' },
  dpop_multiple: { status: 401, error: 'invalid_dpop_proof' },
  dpop_too_large: { status: 401, error: 'invalid_dpop_proof' },
  dpop_malformed: { status: 401, error: 'invalid_dpop_proof' },
  dpop_claims: { status: 401, error: 'invalid_dpop_proof' },
  dpop_type: { status: 401, error: 'invalid_dpop_proof' },
  dpop_algorithm: { status: 401, error: 'invalid_dpop_proof' },
  dpop_key: { status: 401, error: 'invalid_dpop_proof' },
  dpop_signature: { status: 401, error: 'invalid_dpop_proof' },
  dpop_method: { status: 401, error: 'invalid_dpop_proof' },
  dpop_uri: { status: 401, error: 'invalid_dpop_proof' },
  dpop_nonce: { status: 401, error: 'use_dpop_nonce' },
  dpop_expired: { status: 401, error: 'invalid_dpop_proof' },
  dpop_not_yet_valid: { status: 401, error: 'invalid_dpop_proof' },
  dpop_token_hash: { status: 401, error: 'invalid_dpop_proof' },
  dpop_key_mismatch: { status: 401, error: 'invalid_token' },
  dpop_replayed: { status: 401, error: 'invalid_dpop_proof' },

  // The proof of a Device Bound Session Credential. A refresh that is answered by 401 ends the
  // browser's session, and 403 asks for another proof: so none of these is a 401.
  dbsc_missing: { status: 403 },
  dbsc_too_large: { status: 403 },
  dbsc_malformed: { status: 403 },
  dbsc_type: { status: 403 },
  dbsc_algorithm: { status: 403 },
  dbsc_key: { status: 403 },
  dbsc_signature: { status: 403 },
  dbsc_challenge: { status: 403 },
  dbsc_audience: { status: 403 },
  dbsc_authorization: { status: 403 },
  dbsc_replayed: { status: 403 },
  dbsc_bound_already: { status: 403 },

  // A ticket in the place of an access token.
  ticket_target: { status: 400, error: 'invalid_request' },
  ticket_missing: { status: 401 },
  ticket_malformed: { status: 401, error: 'invalid_token' },
  ticket_expired: { status: 401, error: 'invalid_token' },
  ticket_request: { status: 401, error: 'invalid_token' },
  ticket_replayed: { status: 401, error: 'invalid_token' },

  // The assertion of a gate, in the application behind it (RFC 9421, RFC 9530).
  gate_missing: { status: 401 },
  gate_malformed: { status: 401, error: 'invalid_token' },
  gate_key: { status: 401, error: 'invalid_token' },
  gate_signature: { status: 401, error: 'invalid_token' },
  gate_expired: { status: 401, error: 'invalid_token' },
  gate_audience: { status: 401, error: 'invalid_token' },
  gate_anonymous: { status: 401, error: 'invalid_token' },
  gate_digest: { status: 401, error: 'invalid_token' },
  gate_replayed: { status: 401, error: 'invalid_token' },

  // What an accepted token does not allow (RFC 6750 section 3.1, RFC 9470 section 3).
  insufficient_scope: { status: 403, error: 'insufficient_scope' },
  insufficient_user_authentication: { status: 401, error: 'insufficient_user_authentication' },

  // Nobody's mistake, and no reason to let anyone in.
  issuer_unavailable: { status: 503 },
  revocation_unavailable: { status: 503 },
  replay_store_full: { status: 503 },
  replay_store_unavailable: { status: 503 },
} as const satisfies Record<string, { status: 400 | 401 | 403 | 503; error?: OAuthError }>

/** The OAuth error codes a client may see in a challenge (RFC 6750, RFC 9449, RFC 9470). */
export type OAuthError =
  | 'invalid_request'
  | 'invalid_token'
  | 'insufficient_scope'
  | 'invalid_dpop_proof'
  | 'use_dpop_nonce'
  | 'insufficient_user_authentication'

/** Why a request was refused. The set is closed: a `switch` over it can be exhaustive. */
export type VerifyErrorCode = keyof typeof refusals

/** Every {@link VerifyErrorCode}, for counters that start at zero and for tests. */
export const verifyErrorCodes: readonly VerifyErrorCode[] = Object.freeze(
  Object.keys(refusals) as VerifyErrorCode[],
)

/** What a {@link VerifyError} may carry beyond its code and message. */
export type VerifyErrorDetails = Readonly<{
  /** For the log: what was expected and what was there. Never a token, a key or a nonce. */
  cause?: unknown
  /** Values of the `WWW-Authenticate` header fields of the response, one per challenge. */
  challenges?: readonly string[]
  /** The value of the `DPoP-Nonce` header field of the response (RFC 9449 section 9). */
  dpopNonce?: string
}>

/**
 * The only error that the content of a request can cause.
 *
 * The caller's own mistakes (options, a malformed request object) are `TypeError`s, and anything
 * else is a bug. The message is for people and safe to show to the client; `cause` is for the log.
 *
 * @example
 * ```ts
 * try {
 *   await verifier.verify(request)
 * } catch (error) {
 *   if (!(error instanceof VerifyError)) throw error
 *   response.writeHead(error.status, { 'WWW-Authenticate': [...error.challenges] })
 *   response.end()
 * }
 * ```
 */
export class VerifyError extends Error {
  override readonly name = 'VerifyError'
  /** Stable and fine-grained; see the table of refusals in the README. */
  readonly code: VerifyErrorCode
  /** The HTTP status of the response. */
  readonly status: 400 | 401 | 403 | 503
  /** The OAuth error shown to the client; absent when no credentials came and on 503. */
  readonly error: OAuthError | undefined
  /** Values for `WWW-Authenticate`, one header field each. Empty when not thrown by a verifier. */
  readonly challenges: readonly string[]
  /** Value for `DPoP-Nonce`, when the client should use a new nonce. */
  readonly dpopNonce: string | undefined

  constructor(code: VerifyErrorCode, message: string, details: VerifyErrorDetails = {}) {
    super(message, details.cause === undefined ? {} : { cause: details.cause })
    const refusal: { status: 400 | 401 | 403 | 503; error?: OAuthError } = refusals[code]
    this.code = code
    this.status = refusal.status
    this.error = refusal.error
    this.challenges = Object.freeze([...(details.challenges ?? [])])
    this.dpopNonce = details.dpopNonce
  }
}
