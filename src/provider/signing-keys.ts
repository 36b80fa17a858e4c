import {
  CompactEncrypt,
  type CryptoKey,
  calculateJwkThumbprint,
  compactDecrypt,
  exportJWK,
  generateKeyPair,
  type JWK,
} from 'jose'
import type { SigningKeyTable } from '../storage/signing-key-table.ts'
import { StorageError } from '../storage/storage-error.ts'

/** ES256 signs by default; RS256 is what OpenID Connect and RFC 9068 oblige everybody to know. */
const algorithms = ['ES256', 'RS256'] as const

/**
 * The private signing keys as JWKs, from the database; those that are missing are made first.
 *
 * @throws {@link StorageError} `secret_mismatch` when they were encrypted under another secret.
 */
export async function loadSigningKeys(
  table: SigningKeyTable,
  encryptionKey: Uint8Array,
): Promise<JWK[]> {
  const present = new Set((await table.list()).map(({ alg }) => alg))
  for (const alg of algorithms) {
    if (!present.has(alg)) await table.insertFirst(await makeSigningKey(alg, encryptionKey))
  }
  const stored = await table.list()
  return Promise.all(stored.map(({ jwe }) => decrypt(jwe, encryptionKey)))
}

async function makeSigningKey(alg: string, encryptionKey: Uint8Array) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true })
  const jwk = await exportJWK(privateKey as CryptoKey)
  const kid = await calculateJwkThumbprint(jwk)
  const plaintext = new TextEncoder().encode(JSON.stringify({ ...jwk, kid, alg, use: 'sig' }))
  const jwe = await new CompactEncrypt(plaintext)
    .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', kid })
    .encrypt(encryptionKey)
  return { kid, alg, jwe }
}

async function decrypt(jwe: string, encryptionKey: Uint8Array): Promise<JWK> {
  try {
    const { plaintext } = await compactDecrypt(jwe, encryptionKey, {
      keyManagementAlgorithms: ['dir'],
      contentEncryptionAlgorithms: ['A256GCM'],
    })
    return JSON.parse(new TextDecoder().decode(plaintext))
  } catch (cause) {
    throw new StorageError(
      'secret_mismatch',
      'The signing keys in this database were encrypted under another secret. ' +
        'Set HOLDFAST_SECRET to it, or restore the file "secret" of the data folder.',
      { cause },
    )
  }
}
