import { randomBytes } from 'node:crypto'
import { type CryptoKey, calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK } from 'jose'
import { type SigningAlgorithm, signingAlgorithms } from '../config/signing-algorithms.ts'

/** What the nodes authenticate to each other through browsers and clients, 32 bytes each. */
export const secretPurposes = ['cookie', 'dpop-nonce', 'form-token', 'session-binding'] as const

export const keyPurposes = [...signingAlgorithms, ...secretPurposes] as const

export type SecretPurpose = (typeof secretPurposes)[number]
export type KeyPurpose = (typeof keyPurposes)[number]

/** A private or symmetric key, with what names it. */
export type KeyMaterial = JWK & { readonly kid: string }

export const isSigningAlgorithm = (purpose: string): purpose is SigningAlgorithm =>
  (signingAlgorithms as readonly string[]).includes(purpose)

export const isKeyPurpose = (purpose: string): purpose is KeyPurpose =>
  (keyPurposes as readonly string[]).includes(purpose)

/** Makes a key: of 2048 bits where it is RSA. */
export async function makeKey(purpose: KeyPurpose): Promise<KeyMaterial> {
  if (!isSigningAlgorithm(purpose)) return secretOf(randomBytes(32))
  for (;;) {
    const { privateKey } = await generateKeyPair(purpose, { extractable: true })
    const jwk = await exportJWK(privateKey as CryptoKey)
    const kid = await calculateJwkThumbprint(jwk)
    // A name that begins like an option could not be typed.
    if (!kid.startsWith('-')) return { ...jwk, kid, alg: purpose, use: 'sig' }
  }
}

/** Secret bytes as a key. Its name is random: a hash of the bytes would let them be guessed. */
export function secretOf(bytes: Uint8Array): KeyMaterial {
  const kid = randomBytes(16).toString('hex')
  return { kty: 'oct', k: Buffer.from(bytes).toString('base64url'), kid }
}
