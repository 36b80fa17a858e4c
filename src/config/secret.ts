import { hkdfSync, randomBytes } from 'node:crypto'
import { mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { StorageError } from '../storage/storage-error.ts'
import { writeOnce } from './write-once.ts'

/** Keys that are made from the one secret of the installation, each for one purpose. */
export interface Secrets {
  /** Signs the engine's cookies. */
  readonly cookieKey: string
  /** 32 bytes, from which every node makes the same DPoP nonces. */
  readonly dpopNonceSecret: Buffer
  /** 32 bytes, AES-256-GCM: encrypts the private signing keys in the database. */
  readonly keyEncryptionKey: Buffer
  /** 32 bytes: authenticates the hidden token in the forms of an interaction. */
  readonly formTokenKey: Buffer
  /** 32 bytes: authenticates what browsers bring back of the binding of a session. */
  readonly sessionBindingKey: Buffer
}

/** Derives every key by HKDF-SHA-256 (RFC 5869): none tells anything about another. */
export function deriveSecrets(secret: string): Secrets {
  const derive = (purpose: string) =>
    Buffer.from(hkdfSync('sha256', secret, '', `holdfast ${purpose}`, 32))
  return {
    cookieKey: derive('cookie').toString('base64url'),
    dpopNonceSecret: derive('dpop-nonce'),
    keyEncryptionKey: derive('signing-key-encryption'),
    formTokenKey: derive('form-token'),
    sessionBindingKey: derive('session-binding'),
  }
}

/**
 * The secret in the data folder, made at first start with 256 random bits.
 *
 * @throws {@link StorageError} `data_folder_unusable`
 */
export async function readOrMakeSecret(dataFolder: string): Promise<string> {
  const file = path.join(dataFolder, 'secret')
  const secret = await readOrMake(file).catch((cause: NodeJS.ErrnoException) => {
    throw new StorageError(
      'data_folder_unusable',
      `The data folder ${dataFolder} cannot be used (${cause.code}). ` +
        'Set HOLDFAST_DATA to a folder that can be written.',
      { cause },
    )
  })
  // Keys that are derived from an empty secret are known to everybody.
  if (secret.length < secretLength) {
    throw new StorageError(
      'data_folder_unusable',
      `The file ${file} does not hold a secret any more. Restore it, or remove it to have a new one made.`,
    )
  }
  return secret
}

const secretBytes = 32
const secretLength = Math.ceil((secretBytes * 4) / 3)

async function readOrMake(file: string): Promise<string> {
  await mkdir(path.dirname(file), { recursive: true })
  // Of two first starts at once, one writes and both read.
  await writeOnce(file, `${randomBytes(secretBytes).toString('base64url')}\n`)
  return (await readFile(file, 'utf8')).trim()
}
