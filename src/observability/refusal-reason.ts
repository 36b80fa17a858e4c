/**
 * Why a request was refused, finer than its OAuth error: a label of metrics, so the set is closed.
 * The token endpoint has more reasons, in its own table.
 */
export type RefusalReason =
  | 'assertion_replayed'
  | 'authentication_context'
  | 'client_authentication'
  | 'client_metadata'
  | 'dpop_ath_mismatch'
  | 'dpop_htm_mismatch'
  | 'dpop_htu_mismatch'
  | 'dpop_invalid'
  | 'dpop_missing'
  | 'dpop_nonce'
  | 'dpop_not_recent'
  | 'dpop_replayed'
  | 'key_mismatch'
  | 'large_requests'
  | 'other'
  | 'request_bounds'
  | 'request_json'
  | 'request_object_time'
  | 'request_replayed'
  | 'resource_malformed'
  | 'resource_unknown'
  | 'token_binding_missing'
  | 'token_unknown'
  | 'user_code_taken'
