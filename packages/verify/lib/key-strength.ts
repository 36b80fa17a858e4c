import { type KeyObject, X509Certificate } from 'node:crypto'
import { RecentMap } from './recent-map.ts'

/** Whether a key can neither be factored nor is one with which everyone "signs". */
export function isStrongKey(key: KeyObject): boolean {
  if (key.asymmetricKeyType !== 'rsa' && key.asymmetricKeyType !== 'rsa-pss') return true
  const { modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {}
  return modulusLength >= 2048 && publicExponent >= 65_537n
}

/** What was found of certificates, by their thumbprints: clients keep theirs for many requests. */
const known = new RecentMap<boolean>(1024)

/**
 * Whether the key of a certificate is one that others can compute. A certificate that cannot be read
 * is known by its hash alone, and is not.
 */
export function hasWeakKey(
  thumbprint: string,
  certificate: X509Certificate | Uint8Array | undefined,
): boolean {
  if (certificate === undefined) return false
  const before = known.get(thumbprint)
  if (before !== undefined) return before
  const key = publicKeyOf(certificate)
  const isWeak = key !== undefined && !isStrongKey(key)
  known.set(thumbprint, isWeak)
  return isWeak
}

function publicKeyOf(certificate: X509Certificate | Uint8Array): KeyObject | undefined {
  try {
    const parsed =
      certificate instanceof Uint8Array ? new X509Certificate(certificate) : certificate
    return parsed.publicKey
  } catch {
    return undefined
  }
}
