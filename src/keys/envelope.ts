import { CompactEncrypt, compactDecrypt } from 'jose'
import { isSigningAlgorithm, type KeyMaterial } from './key-purpose.ts'

/** What a row says of the key in it, which the envelope has to confirm. */
export interface EnvelopeFacts {
  readonly kid: string
  readonly purpose: string
}

/**
 * Encrypts a key for its row: a compact JWE (RFC 7516), `dir` and `A256GCM`, of the JWK as JSON. The
 * protected header names the key and its purpose, so that one row's key cannot be put into another.
 */
export function sealKey(
  key: KeyMaterial,
  { kid, purpose }: EnvelopeFacts,
  encryptionKey: Uint8Array,
): Promise<string> {
  return new CompactEncrypt(new TextEncoder().encode(JSON.stringify(key)))
    .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', kid, purpose })
    .encrypt(encryptionKey)
}

/** A key, and the place in the list of the encryption key that opened its envelope. */
export interface OpenedKey {
  readonly key: KeyMaterial
  readonly by: number
}

/** Opens an envelope by the first key that does; undefined for one that is damaged or another's. */
export async function openKey(
  jwe: string,
  facts: EnvelopeFacts,
  encryptionKeys: readonly Uint8Array[],
): Promise<OpenedKey | undefined> {
  for (const [by, encryptionKey] of encryptionKeys.entries()) {
    const key = await decrypt(jwe, facts, encryptionKey).catch(() => undefined)
    if (key) return { key, by }
  }
  return undefined
}

async function decrypt(
  jwe: string,
  { kid, purpose }: EnvelopeFacts,
  encryptionKey: Uint8Array,
): Promise<KeyMaterial | undefined> {
  const { plaintext, protectedHeader } = await compactDecrypt(jwe, encryptionKey, {
    keyManagementAlgorithms: ['dir'],
    contentEncryptionAlgorithms: ['A256GCM'],
  })
  const key = JSON.parse(new TextDecoder().decode(plaintext)) as KeyMaterial
  // Envelopes of the first release name their purpose only inside, as the algorithm.
  const sealedFor = protectedHeader.purpose ?? key.alg
  const isOfThisRow = protectedHeader.kid === kid && key.kid === kid && sealedFor === purpose
  const isOfThisKind = isSigningAlgorithm(purpose) ? key.alg === purpose : key.kty === 'oct'
  return isOfThisRow && isOfThisKind ? key : undefined
}
