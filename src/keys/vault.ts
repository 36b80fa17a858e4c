import { CompactEncrypt, compactDecrypt } from 'jose'
import { accountEncryptionKeyOf } from '../config/secret.ts'

/** Encrypts what the server has to read of an account, and nobody who reads the database. */
export interface Vault {
  /** @param of - what it belongs to: it opens for nothing else. */
  seal(text: string, of: string): Promise<string>
  /** @returns undefined for what is damaged, of something else, or of a secret that is gone. */
  open(jwe: string, of: string): Promise<Opened | undefined>
}

export interface Opened {
  readonly text: string
  /** Whether it was sealed under an earlier secret. */
  readonly isOld: boolean
}

const algorithms = { alg: 'dir', enc: 'A256GCM' } as const

/** @param secrets - of the installation, the present one first. */
export function createVault(secrets: readonly string[]): Vault {
  const keys = secrets.map(accountEncryptionKeyOf)
  const [present] = keys
  return {
    seal(text, of) {
      if (!present) throw new TypeError('secrets: at least one')
      return new CompactEncrypt(new TextEncoder().encode(text))
        .setProtectedHeader({ ...algorithms, of })
        .encrypt(present)
    },
    async open(jwe, of) {
      for (const [by, key] of keys.entries()) {
        const text = await decrypt(jwe, of, key).catch(() => undefined)
        if (text !== undefined) return { text, isOld: by > 0 }
      }
      return undefined
    },
  }
}

async function decrypt(jwe: string, of: string, key: Uint8Array): Promise<string | undefined> {
  const { plaintext, protectedHeader } = await compactDecrypt(jwe, key, {
    keyManagementAlgorithms: [algorithms.alg],
    contentEncryptionAlgorithms: [algorithms.enc],
  })
  return protectedHeader.of === of ? new TextDecoder().decode(plaintext) : undefined
}
