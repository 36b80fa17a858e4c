import type { errors } from 'oidc-provider'
import type { RefusalReason } from '../observability/refusal-reason.ts'

type ProtocolError = errors.OIDCProviderError

/** Gives an error that we throw in the engine's name the reason for operators. */
export function refusedFor<Thrown extends ProtocolError>(
  reason: RefusalReason,
  error: Thrown,
): Thrown & { readonly reason: RefusalReason } {
  return Object.assign(error, { reason })
}

/** The engine has no reasons: these are its own sentences, each pinned by a test. */
export const engineSentences = [
  ['dpop_missing', /^`DPoP` header not provided$/],
  ['dpop_replayed', /^DPoP proof JWT Replay detected$/],
  ['dpop_htu_mismatch', /^DPoP proof htu mismatch$/],
  ['dpop_htm_mismatch', /^DPoP proof htm mismatch$/],
  ['dpop_ath_mismatch', /^DPoP proof ath mismatch$/],
  ['dpop_not_recent', /^DPoP proof iat is not recent enough/],
  ['dpop_nonce', /^(?:nonce is required|invalid nonce) in (?:the )?DPoP proof$/],
  ['key_mismatch', /^failed (?:jkt|x5t#S256) verification$/],
  ['request_replayed', /^request_uri is invalid, expired, or was already used$/],
  ['assertion_replayed', /^client assertion tokens must only be used once$/],
  ['token_unknown', /^access token not found$/],
] as const satisfies readonly (readonly [RefusalReason, RegExp])[]

/** For errors of the engine that say enough by themselves. */
const byError: Readonly<Record<string, RefusalReason>> = {
  invalid_client: 'client_authentication',
  invalid_dpop_proof: 'dpop_invalid',
  invalid_target: 'resource_malformed',
}

/** Characters of a sentence that are looked at: what a client has sent may be a part of it. */
const longestSentence = 300

/** Why the engine, or one of our extensions of it, has refused a request. */
export function refusalReason(refusal: ProtocolError, sentence: string): RefusalReason {
  if ('reason' in refusal) return refusal.reason as RefusalReason
  const start = sentence.slice(0, longestSentence)
  const found = engineSentences.find(([, pattern]) => pattern.test(start))
  return found?.[0] ?? byError[refusal.error] ?? 'other'
}
