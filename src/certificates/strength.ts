import type * as x509 from './x509.ts'

const hashes = ['SHA-256', 'SHA-384', 'SHA-512']

/**
 * Whether the signature of a certificate is by a hash without known collisions: with MD5 and SHA-1
 * a certificate that an authority has signed can be turned into another one. What is not known here
 * is not strong.
 */
export function isStronglySigned({ signatureAlgorithm }: x509.X509Certificate): boolean {
  const { name, hash } = signatureAlgorithm as { name: string; hash?: { name: string } | string }
  // These have a hash of their own.
  if (/^Ed(?:DSA|25519|448)$/i.test(name)) return true
  const hashName = typeof hash === 'string' ? hash : hash?.name
  return hashName !== undefined && hashes.includes(hashName.toUpperCase())
}
