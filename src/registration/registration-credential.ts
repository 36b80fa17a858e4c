import { hash } from 'node:crypto'
import type { DPoPNonces } from '@holdfast/verify'
import { type DPoPProof, replayKey, VerifyError, verifyDPoPProof } from '@holdfast/verify'
import {
  type Credential,
  challengesFor,
  readCredential,
  readDPoPHeader,
  supportedAlgorithms,
} from '@holdfast/verify/authorization-server'

import type { ProofWindow } from '../bindings/binding.ts'
import { within } from '../bindings/dpop.ts'

/** What a credential of registration is bound to, as it is stored. */
export interface CredentialBinding {
  /** Whether it may come without a proof. */
  readonly bearer: boolean
  /** The only key that may use it; null for any. */
  readonly jkt: string | null
}

/** The token of a request, and the key that was proven with it. */
export interface PresentedCredential {
  readonly token: string
  readonly scheme: Credential['scheme']
  readonly proof: DPoPProof | undefined
}

export interface CredentialRequest {
  readonly method: string
  /** The public URL of the request: what `htu` is compared with. */
  readonly uri: string
  readonly rawHeaders: readonly string[]
}

/** 32 bytes in base64url: every token of registration is one. */
const madeHere = /^[\w-]{43}$/

/** One answer for what never was, is for another client, has expired, or was used up. */
export function unknownToken(): VerifyError {
  return new VerifyError('token_inactive', 'the token is not known, or can no longer be used')
}

export type RegistrationCredentials = ReturnType<typeof createRegistrationCredentials>

/**
 * Initial and registration access tokens. RFC 7591 and RFC 7592 make bearer tokens of both; here
 * they are bound by DPoP, as RFC 9449 section 7 binds access tokens, unless an administrator has
 * asked for bearer tokens by name.
 */
export function createRegistrationCredentials({
  nonces,
  recordReplay,
  proofWindow,
  now,
}: {
  /** Undefined where proofs need no nonce. */
  nonces: DPoPNonces | undefined
  /** True for exactly one of any number of calls with the same value. */
  recordReplay: (value: string, expiresAt: number) => Promise<boolean>
  proofWindow: ProofWindow
  /** Seconds since the epoch. */
  now: () => number
}) {
  function verifyProof(token: string, { method, uri, rawHeaders }: CredentialRequest): DPoPProof {
    const proof = readDPoPHeader(rawHeaders)
    if (proof === undefined) throw new VerifyError('dpop_missing', 'a DPoP proof is required')
    const seconds = now()
    return verifyDPoPProof(proof, {
      method,
      uri,
      now: seconds,
      ...within(proofWindow),
      ath: hash('sha256', token, 'base64url'),
      ...(nonces && { acceptNonce: (nonce) => nonces.accepts(nonce, seconds) }),
    })
  }

  return {
    /**
     * The credential of a request with its proof, which is verified as far as the request itself
     * tells. Whose it is, and whether the key is the right one, is not checked here.
     *
     * @throws VerifyError
     */
    read(request: CredentialRequest): PresentedCredential {
      const { token, scheme } = readCredential({
        method: request.method,
        url: request.uri,
        headers: request.rawHeaders,
      })
      // What was never made here is looked for nowhere.
      if (!madeHere.test(token)) throw unknownToken()
      const proof = scheme === 'DPoP' ? verifyProof(token, request) : undefined
      return { token, scheme, proof }
    },

    /**
     * Checks a credential against what it is bound to, and uses its proof up.
     *
     * @returns the thumbprint of the key that was proven; null for a bearer token.
     * @throws VerifyError
     */
    async confirm(
      { proof }: PresentedCredential,
      binding: CredentialBinding,
    ): Promise<string | null> {
      if (proof === undefined) {
        if (binding.bearer) return null
        throw new VerifyError('dpop_token_leaked', 'the token is bound: a DPoP proof is required')
      }
      if (binding.jkt !== null && proof.jkt !== binding.jkt) {
        throw new VerifyError('dpop_key_mismatch', 'failed jkt verification')
      }
      const expiresAt = proof.iat + proofWindow.pastS
      if (!(await recordReplay(replayKey(proof), expiresAt))) {
        throw new VerifyError('dpop_replayed', 'DPoP proof JWT Replay detected')
      }
      return proof.jkt
    },

    /** The refusal with the challenges and the nonce that the client needs to try again. */
    challenge({ code, message, cause }: VerifyError, scheme?: Credential['scheme']): VerifyError {
      const error = new VerifyError(code, message)
      return new VerifyError(code, message, {
        cause,
        challenges: challengesFor(error, scheme, {
          dpopAlgorithms: supportedAlgorithms,
          bearer: true,
        }),
        ...(code === 'dpop_nonce' && nonces && { dpopNonce: nonces.current(now()) }),
      })
    },
  }
}
