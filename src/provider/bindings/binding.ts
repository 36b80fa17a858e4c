import type { KoaContextWithOIDC } from 'oidc-provider'
import type { Proofs } from '../../http/edge.ts'

/** One way of binding tokens to a key. The engine checks what a proof says; this asks for it. */
export interface Binding {
  readonly method: 'dpop' | 'mtls'
  /** The client metadata by which its RFC says the same. */
  readonly flag: 'dpop_bound_access_tokens' | 'tls_client_certificate_bound_access_tokens'
  /** What the engine stores with a token, and the member of `cnf`. */
  readonly confirmation: 'jkt' | 'x5t#S256'
  /** Whether the request has a proof. */
  hasProof(ctx: KoaContextWithOIDC, proofs: Proofs): boolean
  /** What the client is told when it has none. */
  readonly missing: string
  /** The confirmation of the key in the request's proof, which the engine verifies. */
  presented(ctx: KoaContextWithOIDC, proofs: Proofs): Promise<string | undefined>
  /**
   * The confirmation of the key that a refresh names as the next one.
   *
   * @throws an error of the engine.
   */
  readSuccessor(successor: string, ctx: KoaContextWithOIDC): string
}
