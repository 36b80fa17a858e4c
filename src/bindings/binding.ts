import type { ClientCertificate, DPoPProof } from '@holdfast/verify'
import type { TokenBindingProof } from '@holdfast/verify/token-binding'

/** Client metadata by which a specification says what `binding_method` says. */
export type BindingFlag =
  | 'dpop_bound_access_tokens'
  | 'tls_client_certificate_bound_access_tokens'
  | 'client_access_token_token_binding_supported'
  | 'client_refresh_token_token_binding_supported'

/** What is stored with a token, and the member of `cnf`. */
export type Confirmation = 'jkt' | 'x5t#S256' | 'tbh'

export const confirmations = ['jkt', 'x5t#S256', 'tbh'] as const satisfies readonly Confirmation[]

/** The keys that a credential is bound to. */
export type BoundCredential = { readonly [Name in Confirmation]?: string | undefined }

/** What the connection of a request shows of the keys of its client, whichever way it came. */
export interface ConnectionProofs {
  readonly certificate: ClientCertificate | undefined
  readonly tokenBinding: TokenBindingProof | undefined
}

/** The same, with the DPoP proof of the request, which was verified. */
export interface Proofs extends ConnectionProofs {
  readonly dpop: DPoPProof | undefined
}

/** What a request has to show a key for. */
export interface Shown {
  readonly connection: ConnectionProofs
  /** Whether the request has a DPoP proof, good or bad. */
  readonly hasDPoP: boolean
  /** Whether it names a resource: then its tokens are for another server. */
  readonly namesResource: boolean
  /** Seconds since the epoch. */
  readonly now: number
}

/** The key that a refresh names as the next one, or why there is none. */
export type NamedSuccessor = { readonly key: string } | { readonly problem: string }

/** One way of binding tokens to a key: proof in, confirmation out. */
export interface Binding {
  readonly method: 'dpop' | 'mtls' | 'token-binding'
  readonly flags: readonly BindingFlag[]
  readonly confirmation: Confirmation
  /** Whether the request has a proof. That the proof is good is verified elsewhere. */
  hasProof(shown: Shown): boolean
  /** What the client learns when it has none. */
  readonly missing: string
  /** The confirmation of the key in the request's proof: what a new refresh token is bound to. */
  presented(proofs: Proofs): string | undefined
  /** The confirmation of the key that a refresh names as the next one. */
  readSuccessor(successor: string, refresh: RefreshWithSuccessor): NamedSuccessor
}

/** When a proof without a nonce may have been made, by our clock: the same at every endpoint. */
export interface ProofWindow {
  /** Seconds for which it is good. */
  readonly pastS: number
  /** Seconds by which the clock of its maker may be ahead. */
  readonly aheadS: number
}

export interface RefreshWithSuccessor {
  readonly proofWindow: ProofWindow
  readonly refreshToken: string
  /** The public address of the token endpoint. */
  readonly uri: string
  /** Seconds since the epoch. */
  readonly now: number
}

/**
 * Whether a request shows every key that a credential is bound to, whatever its client is registered
 * for by now: the confirmation that it does not show, or undefined.
 */
export function missingKey(
  credential: BoundCredential,
  bindings: readonly Binding[],
  proofs: Proofs,
): Confirmation | undefined {
  return bindings.find(({ confirmation, presented }) => {
    const bound = credential[confirmation]
    return bound !== undefined && bound !== presented(proofs)
  })?.confirmation
}

/** Whether a credential is bound to any key. */
export function isBound(credential: BoundCredential): boolean {
  return confirmations.some((name) => credential[name] !== undefined)
}
