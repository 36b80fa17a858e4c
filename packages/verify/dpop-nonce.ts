/**
 * DPoP nonces (RFC 9449 sections 8 and 9) without state: the MAC of a time slot under a secret that
 * all nodes share. Any node knows the nonces of any other one, and nobody can know tomorrow's.
 */
import { createHmac } from 'node:crypto'
import { checkNames, checkSecrets, namesOf } from './lib/check.ts'
import { constantTimeEqual } from './lib/equal.ts'

/** Options of {@link createDPoPNonces}. */
export type DPoPNonceOptions = Readonly<{
  /**
   * Secrets of at least 32 bytes, the same on all nodes. The first one makes nonces; the others
   * are still accepted, so that secrets can be changed without refusing anyone. A function gives
   * those of the moment: the same array until they change.
   */
  secrets: readonly Uint8Array[] | (() => readonly Uint8Array[])
  /** Seconds for which a nonce is current; it is accepted for as long again. Default 150. */
  lifetime?: number
}>

const nonceOptions = namesOf<DPoPNonceOptions>({ secrets: true, lifetime: true })

/** Makes and recognises nonces. All times are seconds since the epoch. */
export type DPoPNonces = Readonly<{
  /** The nonce to send in `DPoP-Nonce`. */
  current(now: number): string
  /** Whether a nonce is the current one, the one before, or the next one of a faster clock. */
  accepts(nonce: string | undefined, now: number): boolean
}>

/**
 * Makes stateless nonces.
 *
 * A nonce says that a proof was made lately, by the server's clock; it does NOT say that the proof
 * was not used before, for a client may use one nonce many times (section 11.1).
 *
 * @example
 * ```ts
 * const nonces = createDPoPNonces({ secrets: [Buffer.from(process.env.NONCE_SECRET, 'base64')] })
 * createVerifier({ issuer, audience, dpop: { nonces } })
 * ```
 *
 * @throws TypeError for a missing or short secret.
 */
export function createDPoPNonces(options: DPoPNonceOptions): DPoPNonces {
  checkNames('options', options, nonceOptions)
  const { secrets: given, lifetime = 150 } = options
  const secretsNow = typeof given === 'function' ? given : () => given
  checkSecrets(secretsNow())
  if (!Number.isFinite(lifetime) || lifetime <= 0) {
    throw new TypeError('lifetime must be a positive number of seconds')
  }

  let slot = Number.NaN
  let secrets: readonly Uint8Array[] = []
  let nonces: readonly string[] = []

  /** The nonces of the slots around this one, by each secret; the current one first. */
  function around(now: number): readonly string[] {
    const wanted = Math.floor(now / lifetime)
    const present = secretsNow()
    if (wanted !== slot || present !== secrets) {
      secrets = checkSecrets(present)
      nonces = secrets.flatMap((secret) =>
        [wanted, wanted - 1, wanted + 1].map((each) => nonceOf(secret, each)),
      )
      slot = wanted
    }
    return nonces
  }

  return Object.freeze({
    current: (now) => around(now)[0] as string,
    accepts(nonce, now) {
      let accepted = false
      for (const known of around(now)) accepted = constantTimeEqual(nonce, known) || accepted
      return accepted
    },
  })
}

function nonceOf(secret: Uint8Array, slot: number): string {
  return createHmac('sha256', secret).update(`DPoP nonce ${slot}`).digest('base64url').slice(0, 22)
}
