import {
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  hkdfSync,
  randomBytes,
} from 'node:crypto'
import { deflateRawSync, inflateRawSync } from 'node:zlib'

/** State that travels with a browser, which can neither read nor change it. */
export interface SealedState {
  /** @param expiresAt Unix time in seconds. */
  seal(owner: string, state: object, expiresAt: number): string
  /** Undefined for anything that was not sealed for this owner, and after its end. */
  open(owner: string, sealed: string): Record<string, unknown> | undefined
}

const algorithm = 'aes-256-gcm'
const saltBytes = 16
const tagBytes = 16

// Each message has a key of its own, made from a random salt: no IV is ever used twice with it, of
// however many messages.
const iv = Buffer.alloc(12)

/** What an authentic message grows to at most. Nothing else is inflated. */
const plainLimitBytes = 64 * 1024

/**
 * Seals by AES-256-GCM with keys derived from secrets that the nodes share. The purpose, the owner
 * and the end are authenticated: what was made for one does not open for another.
 *
 * @param keys - the one to seal with first, of at least 32 bytes.
 * @param now - milliseconds since the epoch.
 */
export function createSealedState(
  purpose: string,
  { keys, now }: { keys: () => readonly Uint8Array[]; now: () => number },
): SealedState {
  // As KeyObjects: Node takes several times as long with keys that are bytes.
  function keyOf(secret: Uint8Array, salt: Uint8Array) {
    const info = `holdfast state\0${purpose}`
    const key = hkdfSync('sha256', createSecretKey(secret), salt, info, 32)
    return createSecretKey(Buffer.from(key))
  }
  const contextOf = (owner: string) => Buffer.from(`${purpose}\0${owner}`)

  function decrypt(key: Uint8Array, owner: string, sealed: Buffer): Buffer {
    const decipher = createDecipheriv(algorithm, keyOf(key, sealed.subarray(0, saltBytes)), iv, {
      authTagLength: tagBytes,
    })
    decipher.setAAD(contextOf(owner))
    decipher.setAuthTag(sealed.subarray(-tagBytes))
    return Buffer.concat([decipher.update(sealed.subarray(saltBytes, -tagBytes)), decipher.final()])
  }

  return {
    seal(owner, state, expiresAt) {
      const [secret] = keys()
      if (!secret) throw new TypeError('keys: at least one')
      const salt = randomBytes(saltBytes)
      const cipher = createCipheriv(algorithm, keyOf(secret, salt), iv, { authTagLength: tagBytes })
      cipher.setAAD(contextOf(owner))
      const plain = deflateRawSync(JSON.stringify([expiresAt, state]))
      const sealed = [salt, cipher.update(plain), cipher.final(), cipher.getAuthTag()]
      return Buffer.concat(sealed).toString('base64url')
    },

    open(owner, text) {
      const sealed = Buffer.from(text, 'base64url')
      for (const key of keys()) {
        try {
          const plain = decrypt(key, owner, sealed)
          const inflated = inflateRawSync(plain, { maxOutputLength: plainLimitBytes }).toString()
          const [expiresAt, state] = JSON.parse(inflated) as [number, Record<string, unknown>]
          return now() / 1000 < expiresAt ? state : undefined
        } catch {
          // Sealed with another key, for another owner, or by someone else; or nothing at all.
        }
      }
      return undefined
    },
  }
}
