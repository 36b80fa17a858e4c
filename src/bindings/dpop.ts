import { hash } from 'node:crypto'
import {
  type DPoPProof,
  ProofKeys,
  VerifyError,
  type VerifyErrorCode,
  verifyDPoPProof,
} from '@holdfast/verify'
import type { Binding, ProofWindow } from './binding.ts'

/**
 * The most seconds by which the time of a proof may differ from ours, where no nonce says the time.
 * It is the engine's own window; a `jti` is remembered by it, whatever is configured.
 */
export const longestProofWindowS = 300

/** The rule of {@link isRecent} as options of `@holdfast/verify`. */
export const within = ({ pastS, aheadS }: ProofWindow) => ({
  maxAge: pastS - aheadS,
  clockTolerance: aheadS,
})

/** Whether a proof without a nonce is of this moment. */
export function isRecent(iat: number, nowS: number, { pastS, aheadS }: ProofWindow): boolean {
  return nowS - iat <= pastS && iat - nowS <= aheadS
}

/** RFC 9449: a JWT by the client's key beside each request. */
export const dpopBinding: Binding = {
  method: 'dpop',
  flags: ['dpop_bound_access_tokens'],
  confirmation: 'jkt',
  hasProof: ({ hasDPoP }) => hasDPoP,
  missing: 'the tokens of this client are bound by DPoP: a DPoP proof is required',
  presented: ({ dpop }) => dpop?.jkt,
  // A proof by the next key, which with `ath` is about this one refresh token.
  readSuccessor(proof, { refreshToken, uri, now, proofWindow }) {
    try {
      const ath = hash('sha256', refreshToken, 'base64url')
      return {
        key: verifyDPoPProof(proof, { method: 'POST', uri, now, ath, ...within(proofWindow) }).jkt,
      }
    } catch (cause) {
      if (!(cause instanceof VerifyError)) throw cause
      return { problem: `successor: ${cause.message}` }
    }
  },
}

/** Nonces of RFC 9449 section 8, the same on all nodes. */
export interface ProofNonces {
  current(): string
  accepts(nonce: string): boolean
}

export type DPoPProblem =
  | 'dpop_invalid'
  | 'dpop_htm_mismatch'
  | 'dpop_htu_mismatch'
  | 'dpop_nonce'
  | 'dpop_not_recent'

/** What comes of a proof: the fact that it shows, or why it shows none. */
export type DPoPOutcome =
  | {
      readonly proof: DPoPProof
      /** What to send as `DPoP-Nonce`; undefined where the client has the next one already. */
      readonly nonce: string | undefined
    }
  | {
      readonly problem: DPoPProblem
      readonly detail: string
      readonly nonce: string | undefined
    }

/** Checks the proofs of requests to this server. */
export interface ProofCheck {
  readonly window: ProofWindow
  check(
    proof: string,
    request: {
      readonly method: string
      readonly uri: string
      readonly now: number
      /** Those that its client may use; those of the server by default. */
      readonly algorithms?: readonly string[]
    },
  ): DPoPOutcome
  /** Keeps the imported key of a proof that was good for something. */
  remember(proof: string): void
}

/**
 * The check of the DPoP proof of a request to this server (RFC 9449 section 4.3), in this thread and
 * with the keys of known clients at hand.
 *
 * It does NOT detect replays: the `jti` is marked with whatever the request comes to.
 */
export function createProofCheck({
  nonces,
  required,
  algorithms: ofServer,
  window,
}: {
  nonces: ProofNonces
  /** Whether a proof needs a nonce. */
  required: boolean
  algorithms: readonly string[]
  window: ProofWindow
}): ProofCheck {
  const keys = new ProofKeys()
  const check: ProofCheck['check'] = (text, { method, uri, now, algorithms = ofServer }) => {
    const proof = verify(text, { method, uri, algorithms, keys })
    if ('problem' in proof) return { ...proof, nonce: undefined }
    const next = nonces.current()
    const ask = (problem: DPoPProblem, detail: string) => ({ problem, detail, nonce: next })
    if (proof.nonce === undefined) {
      if (required) return ask('dpop_nonce', 'nonce is required in the DPoP proof')
      if (!isRecent(proof.iat, now, window)) {
        const detail = 'DPoP proof iat is not recent enough, use a DPoP nonce instead'
        return ask('dpop_not_recent', detail)
      }
    } else if (!nonces.accepts(proof.nonce)) {
      return ask('dpop_nonce', 'invalid nonce in DPoP proof')
    }
    return { proof, nonce: proof.nonce === next ? undefined : next }
  }
  return { window, check, remember: (proof) => keys.remember(proof) }
}

const problems: Partial<Record<VerifyErrorCode, DPoPProblem>> = {
  dpop_method: 'dpop_htm_mismatch',
  dpop_uri: 'dpop_htu_mismatch',
}

function verify(
  proof: string,
  expected: { method: string; uri: string; algorithms: readonly string[]; keys: ProofKeys },
): DPoPProof | { problem: DPoPProblem; detail: string } {
  try {
    return verifyDPoPProof(proof, {
      ...expected,
      // Whether its time counts depends on whether it has a nonce.
      now: 0,
      maxAge: Number.POSITIVE_INFINITY,
      clockTolerance: Number.POSITIVE_INFINITY,
    })
  } catch (cause) {
    if (!(cause instanceof VerifyError)) throw cause
    return { problem: problems[cause.code] ?? 'dpop_invalid', detail: cause.message }
  }
}
