/** Why a request was refused, finer than its OAuth error: a label of metrics, so the set is closed. */
export type RefusalReason = (typeof reasons)[number][0] | (typeof ofErrors)[number]

const ofErrors = ['client_authentication', 'other'] as const

/** By the words of the engine. What the token endpoint refuses has its reasons in a table. */
const reasons = [
  ['dpop_missing', /a DPoP proof is required|`DPoP` header not provided/],
  ['dpop_replayed', /DPoP proof JWT Replay detected/],
  ['dpop_htu_mismatch', /DPoP proof htu mismatch/],
  ['dpop_htm_mismatch', /DPoP proof htm mismatch/],
  ['dpop_ath_mismatch', /DPoP proof ath mismatch/],
  ['dpop_not_recent', /DPoP proof (?:iat is not recent enough|is too old|is from the future)/],
  [
    'dpop_nonce',
    /nonce (?:is required )?in (?:the )?DPoP proof|DPoP proof (?:needs a nonce|nonce is not current)/,
  ],
  ['dpop_invalid', /invalid DPoP key binding|DPoP proof must|DPoP proof nonce/],
  ['key_mismatch', /failed (?:jkt|x5t#S256|tbh) verification|thumbprint does not match dpop_jkt/],
  ['request_replayed', /request_uri is invalid, expired, or was already used/],
  ['assertion_replayed', /client assertion tokens must only be used once/],
  ['token_unknown', /token not found/],
] as const satisfies readonly (readonly [string, RegExp])[]

/** For errors that say enough by themselves. */
const fallbacks: Readonly<Record<string, RefusalReason>> = {
  invalid_client: 'client_authentication',
  invalid_dpop_proof: 'dpop_invalid',
}

/** Characters of a detail that are looked at: what a client has sent may be a part of it. */
const longestDetail = 300

/** The reason behind an OAuth error, by the sentence that came with it. */
export function refusalReason(error: string, detail: string): RefusalReason {
  const start = detail.slice(0, longestDetail)
  return reasons.find(([, words]) => words.test(start))?.[0] ?? fallbacks[error] ?? 'other'
}
