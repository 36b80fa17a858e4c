import {
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  hkdfSync,
  randomBytes,
} from 'node:crypto'

// Only a client that presents an artifact's identifier can read what was sealed under it: the database
// has a hash of the identifier, from which the key cannot be made.
function keyOf(identifier: string) {
  const from = createSecretKey(identifier, 'utf8')
  return createSecretKey(Buffer.from(hkdfSync('sha256', from, '', 'holdfast seal', 32)))
}

const algorithm = 'aes-256-gcm'
const ivBytes = 12
const tagBytes = 16

/** Encrypts under the identifier of an artifact what names another one. */
export function seal(identifier: string, text: string): string {
  const iv = randomBytes(ivBytes)
  const cipher = createCipheriv(algorithm, keyOf(identifier), iv, { authTagLength: tagBytes })
  const sealed = [iv, cipher.update(text), cipher.final(), cipher.getAuthTag()]
  return Buffer.concat(sealed).toString('base64url')
}

/** Throws for anything but what was sealed under this identifier. */
export function unseal(identifier: string, sealed: string): string {
  const bytes = Buffer.from(sealed, 'base64url')
  const [iv, tag] = [bytes.subarray(0, ivBytes), bytes.subarray(-tagBytes)]
  const decipher = createDecipheriv(algorithm, keyOf(identifier), iv, { authTagLength: tagBytes })
  decipher.setAuthTag(tag)
  return decipher.update(bytes.subarray(ivBytes, -tagBytes), undefined, 'utf8') + decipher.final()
}
