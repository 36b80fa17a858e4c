/** The form of an id that stands for a credential: SHA-256 in hexadecimal. */
export function isDigest(id: string): boolean {
  return /^[\da-f]{64}$/.test(id)
}
