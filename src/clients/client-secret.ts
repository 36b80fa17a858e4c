import { hash, randomBytes, timingSafeEqual } from 'node:crypto'

const prefix = 'sha256:'

/** A new client secret: 256 random bits, so that one hash is enough to store it by. */
export function makeClientSecret(): { secret: string; stored: string } {
  const secret = randomBytes(32).toString('base64url')
  return { secret, stored: prefix + hash('sha256', secret, 'base64url') }
}

/** Whether a secret is the one that was stored, in constant time. Anything else stored: no. */
export function matchesSecret(secret: string, stored: string | undefined): boolean {
  if (!stored?.startsWith(prefix)) return false
  const expected = Buffer.from(stored.slice(prefix.length), 'base64url')
  const actual = hash('sha256', secret, 'buffer')
  return expected.length === actual.length && timingSafeEqual(expected, actual)
}
