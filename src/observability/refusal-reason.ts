/**
 * Why a request was refused, finer than its OAuth error: a label of metrics, so the set is closed.
 * The token endpoint has more reasons, in its own table.
 */
export type RefusalReason =
  | 'assertion_replayed'
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
  | 'other'
  | 'request_bounds'
  | 'request_json'
  | 'request_replayed'
  | 'token_binding_missing'
  | 'token_unknown'
