/**
 * A login whose code and ID token are bound to the browser, from the relying party's side (RFC 8473
 * section 5, draft-ietf-oauth-token-binding-08 section 5.2, OpenID Connect Token Bound
 * Authentication draft 04).
 */
import type { TokenBindingFact } from './confirmation.ts'
import { VerifyError } from './errors.ts'
import type { TokenBindingProof } from './token-binding.ts'

/** What a browser has proven on its connection with the relying party. */
export type ProvidedTokenBinding = Pick<TokenBindingProof, 'provided'>

/** How to send a browser to the identity provider. */
export type TokenBoundLoginStart = Readonly<{
  /** Kept with `state` and `nonce`, where this browser finds it again. */
  browserId: string
  /** Fields of the redirect: they ask the browser to show the provider the key it has here. */
  headers: Readonly<Record<string, string>>
  /** For the authorization request; in the browser's own URL or pushed, as all the others. */
  parameters: Readonly<{ code_challenge: string; code_challenge_method: string }>
}>

/**
 * Begins a login on the connection of a browser that speaks Token Binding.
 *
 * @example
 * ```ts
 * const { browserId, headers, parameters } = beginTokenBoundLogin(proof)
 * response.writeHead(303, { ...headers, location: authorizationUrl({ ...parameters, nonce, state }) })
 * ```
 *
 * @throws {@link VerifyError} `token_binding_missing`
 */
export function beginTokenBoundLogin(
  proof: ProvidedTokenBinding | undefined,
): TokenBoundLoginStart {
  return Object.freeze({
    browserId: idOf(proof),
    headers: includeReferredTokenBindingId,
    parameters: Object.freeze({
      code_challenge: 'referred_tb',
      code_challenge_method: 'referred_tb',
    }),
  })
}

/**
 * Header fields of any redirect from one server that speaks Token Binding to another, by which the
 * first asks that its own key of the client be shown to the second (RFC 8473 section 5.3).
 */
export const includeReferredTokenBindingId: Readonly<Record<string, string>> = Object.freeze({
  'Include-Referred-Token-Binding-ID': 'true',
})

/** What finishes a login. */
export type TokenBoundLoginEnd = Readonly<{
  /** For the token request. */
  codeVerifier: string
  /** What the ID token must be bound to. */
  tokenBinding: TokenBindingFact
}>

/**
 * Finishes a login on the connection that brings the code, which has to be the one of the browser
 * that began it.
 *
 * This does NOT look at `state`, nor at the ID token: `tokenBinding` is for the verifier of ID
 * tokens. The relying party's connection to the token endpoint has nothing to do with it.
 *
 * @throws {@link VerifyError} `token_binding_missing`, `token_binding_mismatch`
 */
export function finishTokenBoundLogin(
  browserId: string,
  proof: ProvidedTokenBinding | undefined,
): TokenBoundLoginEnd {
  if (idOf(proof) !== browserId) {
    throw new VerifyError('token_binding_mismatch', 'Login was begun with another Token Binding')
  }
  const tokenBinding = Object.freeze({ providedId: Buffer.from(browserId, 'base64url') })
  return Object.freeze({ codeVerifier: browserId, tokenBinding })
}

function idOf(proof: ProvidedTokenBinding | undefined): string {
  if (proof === undefined) {
    throw new VerifyError('token_binding_missing', 'Login needs the Token Binding of its browser')
  }
  return proof.provided.id
}
