import { VerifyError, type VerifyErrorCode } from '@holdfast/verify'
import type { RefusalReason } from '../observability/refusal-reason.ts'

const reasons: Readonly<Partial<Record<VerifyErrorCode, RefusalReason>>> = {
  dpop_missing: 'dpop_missing',
  dpop_token_leaked: 'dpop_missing',
  dpop_replayed: 'dpop_replayed',
  dpop_uri: 'dpop_htu_mismatch',
  dpop_method: 'dpop_htm_mismatch',
  dpop_token_hash: 'dpop_ath_mismatch',
  dpop_expired: 'dpop_not_recent',
  dpop_not_yet_valid: 'dpop_not_recent',
  dpop_nonce: 'dpop_nonce',
  dpop_key_mismatch: 'key_mismatch',
  token_inactive: 'token_unknown',
}

/** Why a request for registration was refused, for operators. */
export function registrationReason(error: Error): RefusalReason {
  if (!(error instanceof VerifyError)) return 'client_metadata'
  const isOfProof = error.error === 'invalid_dpop_proof'
  return reasons[error.code] ?? (isOfProof ? 'dpop_invalid' : 'other')
}
