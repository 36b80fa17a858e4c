/** What RFC 5280 section 6.1 asks of each certificate of a path, for any use. */
import type { X509Certificate } from 'node:crypto'
import { isStrongKey } from '@holdfast/verify/authorization-server'
import { isStronglySigned } from './strength.ts'
import * as x509 from './x509.ts'

/** Names, key identifiers and key usage by OpenSSL's rules; then the signature. */
export function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)
}

/** No signature by MD5 or SHA-1, and no short key. */
export function isStrong(certificate: X509Certificate): boolean {
  const parsed = new x509.X509Certificate(certificate.raw)
  return isStronglySigned(parsed) && isStrongKey(certificate.publicKey)
}

/** @param now milliseconds since the epoch. */
export function isCurrent({ validFromDate, validToDate }: X509Certificate, now: number): boolean {
  return validFromDate.getTime() <= now && now <= validToDate.getTime()
}

/** RFC 5280 section 4.2.1: nothing critical may be overlooked. */
const understood = [
  x509.BasicConstraintsExtension,
  x509.KeyUsagesExtension,
  x509.ExtendedKeyUsageExtension,
  x509.SubjectAlternativeNameExtension,
]

/** Undefined for a certificate with a critical extension that is not known here. */
export function parseUnderstood(certificate: X509Certificate): x509.X509Certificate | undefined {
  const parsed = new x509.X509Certificate(certificate.raw)
  const isUnderstood = (extension: x509.Extension) =>
    understood.some((known) => extension instanceof known)
  return parsed.extensions.every((each) => !each.critical || isUnderstood(each))
    ? parsed
    : undefined
}

/**
 * RFC 5280 section 6.1.4 (k) to (m); key usage is {@link isIssuedBy}'s.
 *
 * @param below certificates of authorities between this one and the last.
 */
export function mayIssue(certificate: X509Certificate, below: number): boolean {
  const parsed = parseUnderstood(certificate)
  if (parsed === undefined || !certificate.ca) return false
  const { pathLength } = parsed.getExtension(x509.BasicConstraintsExtension) ?? {}
  return pathLength === undefined || below <= pathLength
}
