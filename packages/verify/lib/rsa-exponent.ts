/**
 * Whether a public exponent, big-endian without leading zeros, is one that keys are made with: odd
 * and at least 65537 (FIPS 186-5 section A.1.1). With exponent 1 everyone can "sign", an even one
 * has no private key, and small ones forgive no mistake in a padding.
 */
export function isSafeExponent(exponent: Buffer): boolean {
  if (exponent.length < 3 || exponent[0] === 0) return false
  const isOdd = exponent.readUInt8(exponent.length - 1) % 2 === 1
  return isOdd && (exponent.length > 3 || exponent.readUIntBE(0, 3) >= 65_537)
}
