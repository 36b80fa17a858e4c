/**
 * Whether a public exponent, big-endian without leading zeros, is one that keys are made with: odd
 * and at least 65537 (FIPS 186-5 section A.1.1). With exponent 1 everyone can "sign", an even one
 * has no private key, and small ones forgive no mistake in a padding.
 */
export function isSafeExponent(exponent: Buffer): boolean {
  // Three bytes, of which the first is not zero: 65536 and more.
  if (exponent.length < 3 || exponent[0] === 0) return false
  return exponent.readUInt8(exponent.length - 1) % 2 === 1
}
