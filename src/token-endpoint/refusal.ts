/*
 * Why a request to a machine endpoint is refused. This table is the only place where a reason has an
 * error code (RFC 6749 section 5.2 and its kin), words for the client, and a label for metrics: the
 * code that refuses names a reason, and nobody reads a sentence to find out what has happened.
 */
import { unregisteredResource } from '../clients/client-scopes.ts'

interface Row {
  readonly status: 400 | 401
  readonly error: string
  /** For the client: what the specifications let it know. */
  readonly description: string
  /** For the operator. */
  readonly detail: string
  /** Of metrics and events, where several reasons are one to those who watch. */
  readonly label?: string
  /** Of metrics alone: the event is no misuse of a credential that the server has looked up. */
  readonly counted?: string
}

/** One sentence for the client and the operator. */
const explained = (error: string, description: string): Row => ({
  status: 400,
  error,
  description,
  detail: description,
})

/** The client learns that its grant is no good, and a thief learns not why. */
const grant = (detail: string, label?: string): Row => ({
  status: 400,
  error: 'invalid_grant',
  description: 'grant request is invalid',
  detail,
  ...(label && { label }),
})

const client = (detail: string, label = 'client_authentication'): Row => ({
  status: 401,
  error: 'invalid_client',
  description: 'client authentication failed',
  detail,
  label,
})

const target = (detail: string, description = detail): Row => ({
  status: 400,
  error: 'invalid_target',
  description,
  detail,
})

export const refusals = {
  // The request
  body_type: explained(
    'invalid_request',
    'only application/x-www-form-urlencoded bodies are supported',
  ),
  body_unreadable: explained('invalid_request', 'failed to parse the request body'),
  parameter_twice: explained('invalid_request', 'a parameter must not be provided twice'),
  parameter_missing: explained('invalid_request', 'a required parameter is missing'),
  grant_type_unknown: explained('unsupported_grant_type', 'unsupported grant_type requested'),
  grant_type_forbidden: explained(
    'unauthorized_client',
    'requested grant type is not allowed for this client',
  ),
  scope_malformed: explained('invalid_scope', 'scope contains invalid characters'),
  origin_forbidden: explained('invalid_request', 'this origin is not allowed for this client'),

  // Client authentication
  client_unnamed: explained('invalid_request', 'no client authentication mechanism provided'),
  client_named_twice: explained('invalid_request', 'client_id mismatch'),
  client_authenticates_twice: explained(
    'invalid_request',
    'client authentication must only be provided using one mechanism',
  ),
  authorization_malformed: explained(
    'invalid_request',
    'invalid authorization header value format',
  ),
  assertion_type: explained(
    'invalid_request',
    'client_assertion_type must have value urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
  ),
  assertion_malformed: client('invalid client_assertion format'),
  client_unknown: client('client not found'),
  client_method: client(
    'the provided authentication mechanism does not match the registered client authentication method',
  ),
  secret_wrong: client('invalid secret provided'),
  secret_expired: client('the client secret is expired'),
  assertion_subject: client('sub (JWT subject) must be provided in the client_assertion JWT'),
  assertion_algorithm: client('alg mismatch'),
  assertion_claims: client('client_assertion needs exp, jti and iss, of the right types'),
  assertion_issuer: client('iss (JWT issuer) must be the client_id'),
  assertion_audience: client('aud must be the issuer, as a string'),
  assertion_signature: client('no key of the client verifies the client assertion'),
  assertion_keys: client('the keys of the client could not be fetched'),
  assertion_time: client('the client assertion is expired or not valid yet'),
  assertion_long: client('the client assertion is good for too long'),
  assertion_replayed: client(
    'client assertion tokens must only be used once',
    'assertion_replayed',
  ),
  certificate_missing: client('client certificate was not provided'),
  certificate_untrusted: client('client certificate was not verified'),
  certificate_subject: client('certificate subject value does not match the registered one'),
  certificate_unregistered: client('unregistered client certificate provided'),

  client_metadata: {
    ...client('the client contradicts what this server accepts'),
    description: 'the client contradicts what this server accepts',
  },

  // Proofs
  dpop_missing: grant('the tokens of this client are bound: a proof is required'),
  dpop_invalid: explained('invalid_dpop_proof', 'DPoP proof is invalid'),
  dpop_htm_mismatch: explained('invalid_dpop_proof', 'DPoP proof htm mismatch'),
  dpop_htu_mismatch: explained('invalid_dpop_proof', 'DPoP proof htu mismatch'),
  dpop_nonce: explained('use_dpop_nonce', 'a nonce is required in the DPoP proof'),
  dpop_not_recent: explained('use_dpop_nonce', 'DPoP proof iat is not recent enough'),
  dpop_replayed: grant('DPoP proof JWT Replay detected'),
  certificate_proof_missing: {
    ...grant('the tokens of this client are bound: a certificate is required'),
    counted: 'key_mismatch',
  },
  token_binding_missing: {
    ...grant('the tokens of this client are bound by Token Binding'),
    counted: 'key_mismatch',
  },
  two_bindings: explained(
    'invalid_request',
    'multiple proof-of-possession mechanisms are not allowed',
  ),

  // Codes, device codes and refresh tokens
  token_unknown: grant('the code or token is not found'),
  client_mismatch: grant('client mismatch'),
  code_expired: grant('authorization code is expired'),
  token_expired: grant('refresh token is expired'),
  session_ended: grant('the session that it comes from has ended'),
  grant_gone: grant('grant not found, expired, or of another client'),
  account_gone: grant('referenced account not found'),
  account_mismatch: grant('accountId mismatch'),
  pkce_malformed: explained('invalid_request', 'code_verifier is malformed'),
  pkce_mismatch: grant('code_verifier does not match code_challenge'),
  redirect_uri_mismatch: grant('authorization code redirect_uri mismatch'),
  key_mismatch: grant('the credential is bound to another key'),
  not_bound: grant('the credential is not bound to a key', 'key_mismatch'),
  id_token_unbound: grant('the sign-in was not bound to a browser'),
  code_replayed: grant('authorization code already consumed'),
  refresh_token_replayed: grant('refresh token already used'),
  device_code_replayed: grant('device code already consumed'),
  auth_req_id_replayed: grant('auth_req_id already consumed'),
  successor_proof: explained('invalid_dpop_proof', 'successor: the proof is invalid'),
  successor_name: explained('invalid_request', 'successor is malformed'),

  // The device flow
  authorization_pending: explained(
    'authorization_pending',
    "authorization request is still pending as the end-user hasn't yet completed the user interaction steps",
  ),
  slow_down: explained(
    'slow_down',
    'you are polling too quickly and should back off at a reasonable rate',
  ),
  device_code_expired: explained('expired_token', 'device code is expired'),
  auth_req_id_expired: explained('expired_token', 'auth_req_id is expired'),
  approval_denied: explained('access_denied', 'the person has not approved the request'),
  device_denied: explained('access_denied', 'the person has not let the device in'),

  // Scopes and resources
  scope_forbidden: explained('invalid_scope', 'requested scope is not allowed'),
  scope_exceeds: explained('invalid_scope', 'refresh token missing requested scope'),
  details_malformed: explained(
    'invalid_authorization_details',
    'authorization_details is malformed',
  ),
  details_not_granted: explained(
    'invalid_authorization_details',
    'authorization_details was not granted, or not for this resource',
  ),
  resource_malformed: target('resource indicator must be an absolute URI without a fragment'),
  resource_unknown: target('unknown resource'),
  resource_unregistered: target(unregisteredResource),
  resource_not_granted: target(
    'the resource was not granted',
    'resource indicator is missing, or unknown',
  ),
  resource_several: target(
    'only a single resource indicator value must be requested/resolved during Access Token Request',
  ),
} as const satisfies Record<string, Row>

/** Why a request was refused: closed, so that every reason has its row and its test. */
export type RefusalReason = keyof typeof refusals

/** A refusal as a value. What is left out is what the table says. */
export interface Refusal {
  readonly refused: RefusalReason
  /** What the client learns, where that depends on the request. */
  readonly description?: string | undefined
  /** What the operator learns, where that depends on the request. */
  readonly detail?: string | undefined
  /** The error code, where the person's own answer is one. */
  readonly error?: string | undefined
  /** The scopes that were too many (an answer's member `scope`). */
  readonly scope?: string | undefined
  /** What becomes true all the same, if the request was not seen before. */
  readonly consequence?: Consequence | undefined
}

/** What a refused request leads to. */
export type Consequence =
  /** A credential was used a second time: everything that was issued from it ends. */
  | {
      readonly kind: 'end-family'
      readonly grantId: string
      /** Undefined where it is not known: then everything of the grant ends. */
      readonly family: string | undefined
      readonly accountId: string | undefined
      /** What was used twice. */
      readonly credential: string
    }
  /** A client asks whether its person has decided. */
  | { readonly kind: 'poll'; readonly id: Buffer; readonly now: number }

/** Refuses for a reason of the table. */
export function refuse(refused: RefusalReason, more: Omit<Refusal, 'refused'> = {}): Refusal {
  return { refused, ...more }
}

/** Whether a value is a refusal. */
export function isRefusal(value: object): value is Refusal {
  return 'refused' in value
}

/** The body of the answer (RFC 6749 section 5.2). */
export function refusalBody({ refused, error, description, scope }: Refusal) {
  const row = refusals[refused]
  return {
    error: error ?? row.error,
    error_description: description ?? row.description,
    ...(scope !== undefined && { scope }),
  }
}

/** Characters of a description that are kept: a client's own words may be a part of it. */
const longestDetail = 1000

/** What the operator learns of it. */
export function refusalForOperators(refusal: Refusal) {
  const row: Row = refusals[refusal.refused]
  return {
    error: refusal.error ?? row.error,
    reason: (row.label ?? refusal.refused) as RefusalReason,
    ...(row.counted && { counted: row.counted }),
    detail: (refusal.detail ?? refusal.description ?? row.detail).slice(0, longestDetail),
  }
}
