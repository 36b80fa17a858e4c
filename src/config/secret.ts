import { hkdfSync, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { writeOnce } from '../files/write-once.ts'
import { SecretError } from './secret-error.ts'

/** 32 bytes, AES-256-GCM: encrypts the keys in the database. By HKDF-SHA-256 (RFC 5869). */
export function encryptionKeyOf(secret: string): Buffer {
  return derive(secret, 'signing-key-encryption')
}

/** 32 bytes, AES-256-GCM: encrypts secrets of accounts in the database. */
export function accountEncryptionKeyOf(secret: string): Buffer {
  return derive(secret, 'account-encryption')
}

/** 32 bytes: what the first release used for a purpose, before such secrets were rotated. */
export function firstSecretOf(secret: string, purpose: string): Buffer {
  return derive(secret, purpose)
}

function derive(secret: string, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', `holdfast ${purpose}`, 32))
}

/**
 * The secret of the installation, and after it the one before. With `makes: false` there may be
 * none: it is not made.
 */
export async function installationSecrets(
  {
    secret,
    previousSecret,
    dataFolder,
  }: {
    secret: string | undefined
    previousSecret: string | undefined
    dataFolder: string
  },
  { makes = true }: { makes?: boolean | undefined } = {},
): Promise<string[]> {
  if (!makes && !isSecretMade({ secret, dataFolder })) {
    return previousSecret === undefined ? [] : [previousSecret]
  }
  const present = secret ?? (await readOrMakeSecret(dataFolder))
  return previousSecret === undefined ? [present] : [present, previousSecret]
}

/** Whether there is a secret already, configured or in the data folder. */
export function isSecretMade({
  secret,
  dataFolder,
}: {
  secret: string | undefined
  dataFolder: string
}): boolean {
  return secret !== undefined || existsSync(secretFile(dataFolder))
}

const secretFile = (dataFolder: string) => path.join(dataFolder, 'secret')

/**
 * The secret in the data folder, made at first start with 256 random bits.
 *
 * @throws {@link SecretError}
 */
export async function readOrMakeSecret(dataFolder: string): Promise<string> {
  const file = secretFile(dataFolder)
  const secret = await readOrMake(file).catch((cause: NodeJS.ErrnoException) => {
    throw new SecretError(
      `The data folder ${dataFolder} cannot be used (${cause.code}). ` +
        'Set HOLDFAST_DATA to a folder that can be written.',
      { cause },
    )
  })
  // Keys that are derived from an empty secret are known to everyone.
  if (secret.length < secretLength) {
    throw new SecretError(
      `The file ${file} no longer contains a valid secret. Restore it, or delete it to generate a new one.`,
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
