import type { KoaContextWithOIDC } from 'oidc-provider'
import type { Proofs } from '../../http/edge.ts'

/** Client metadata by which a specification says what `binding_method` says. */
export type BindingFlag =
  | 'dpop_bound_access_tokens'
  | 'tls_client_certificate_bound_access_tokens'
  | 'client_access_token_token_binding_supported'
  | 'client_refresh_token_token_binding_supported'

/** One way of binding tokens to a key. The engine checks what a proof says; this asks for it. */
export interface Binding {
  readonly method: 'dpop' | 'mtls' | 'token-binding'
  readonly flags: readonly BindingFlag[]
  /** What is stored with a token, and the member of `cnf`. */
  readonly confirmation: 'jkt' | 'x5t#S256' | 'tbh'
  /** Whether the request has a proof. */
  hasProof(ctx: KoaContextWithOIDC, proofs: Proofs): boolean
  /** What the client is told when it has none. */
  readonly missing: string
  /**
   * The confirmation of the key in the request's proof: what a new refresh token is bound to. That
   * the proof is good is verified elsewhere.
   */
  presented(ctx: KoaContextWithOIDC, proofs: Proofs): Promise<string | undefined>
  /**
   * The confirmation of the key that a refresh names as the next one.
   *
   * @throws an error of the engine.
   */
  readSuccessor(successor: string, ctx: KoaContextWithOIDC): string
}
