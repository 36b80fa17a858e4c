/** What the gate hands to browsers and stores and reads again: encrypted, each for one purpose. */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomBytes as nodeRandomBytes,
  timingSafeEqual,
} from 'node:crypto'

/** Seals and opens values with the secrets of `browsers.secretFiles`. */
export type Sealer = Readonly<{
  /** Encrypts a value that `open` accepts until `untilMs`, for this purpose alone. */
  seal(purpose: string, value: object, untilMs: number): string
  /** The value, or `undefined` for what is malformed, forged, for another purpose, or too old. */
  open(purpose: string, text: string, nowMs: number): Record<string, unknown> | undefined
  /** A code that only holders of the first secret can make. */
  authenticate(purpose: string, text: string): string
  /** Whether a code was made with one of the secrets. */
  isAuthentic(purpose: string, text: string, code: string): boolean
  /** Keys for another purpose, the first one to make things with. */
  derive(purpose: string): readonly Uint8Array[]
}>

const ivBytes = 12
const tagBytes = 16

/**
 * Makes a sealer: AES-256-GCM, with a key for each purpose (HKDF-SHA-256). The first secret seals, and
 * all of them open, so that secrets can be replaced.
 *
 * @throws TypeError for a secret of less than 32 bytes.
 */
export function createSealer(
  secrets: readonly Uint8Array[],
  randomBytes: (size: number) => Buffer = nodeRandomBytes,
): Sealer {
  const [first] = secrets
  if (first === undefined || secrets.some(({ length }) => length < 32)) {
    throw new TypeError('a secret must have at least 32 bytes')
  }
  const derived = new Map<string, readonly Buffer[]>()
  function derive(purpose: string): readonly Buffer[] {
    const known = derived.get(purpose)
    if (known !== undefined) return known
    const keys = secrets.map((secret) =>
      Buffer.from(hkdfSync('sha256', secret, '', `holdfast-gate ${purpose}`, 32)),
    )
    derived.set(purpose, keys)
    return keys
  }
  // As keys: Node takes bytes for twice as long.
  const macKeys = new Map<string, readonly KeyObject[]>()
  function macKeysOf(purpose: string): readonly KeyObject[] {
    const known = macKeys.get(purpose)
    if (known !== undefined) return known
    const keys = derive(purpose).map((bytes) => createSecretKey(bytes))
    macKeys.set(purpose, keys)
    return keys
  }
  const codeOf = (key: KeyObject, text: string) =>
    createHmac('sha256', key).update(text).digest('base64url')

  return Object.freeze({
    derive,

    seal(purpose, value, untilMs) {
      const iv = randomBytes(ivBytes)
      const cipher = createCipheriv('aes-256-gcm', derive(purpose)[0] as Buffer, iv)
      const text = JSON.stringify({ value, untilMs })
      const sealed = [cipher.update(text, 'utf8'), cipher.final()]
      return Buffer.concat([iv, ...sealed, cipher.getAuthTag()]).toString('base64url')
    },

    open(purpose, text, nowMs) {
      const bytes = Buffer.from(text, 'base64url')
      if (bytes.length <= ivBytes + tagBytes) return undefined
      for (const key of derive(purpose)) {
        const plain = decrypt(key, bytes)
        if (plain === undefined) continue
        const { value, untilMs } = JSON.parse(plain) as {
          value: Record<string, unknown>
          untilMs: number
        }
        return nowMs < untilMs ? value : undefined
      }
      return undefined
    },

    authenticate: (purpose, text) => codeOf(macKeysOf(purpose)[0] as KeyObject, text),

    isAuthentic: (purpose, text, code) =>
      macKeysOf(purpose).some((key) => equal(codeOf(key, text), code)),
  })
}

function decrypt(key: Buffer, bytes: Buffer): string | undefined {
  const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, ivBytes))
  decipher.setAuthTag(bytes.subarray(-tagBytes))
  try {
    const opened = [decipher.update(bytes.subarray(ivBytes, -tagBytes)), decipher.final()]
    return Buffer.concat(opened).toString()
  } catch {
    return undefined
  }
}

/** Compares texts in a time that says nothing of where they differ. */
export function equal(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}
