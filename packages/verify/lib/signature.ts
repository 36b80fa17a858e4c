/**
 * JSON Web Signature algorithms over `node:crypto`.
 *
 * Synchronous on purpose: on one core it costs less than the thread pool, and servers scale by
 * processes. ECDSA signatures are turned from the r || s of JWS into DER first, because Node 24
 * charges a third of the whole verification for `dsaEncoding: 'ieee-p1363'`.
 */
import { constants, type KeyObject, verify } from 'node:crypto'

type Algorithm = Readonly<{
  /** JWK key type and, for elliptic curves, the only curve the algorithm may be used with. */
  kty: 'EC' | 'OKP' | 'RSA'
  crv?: string
  hash: string | null
  /** Bytes of r and of s. */
  integer?: number
  pss?: number
}>

/** Every algorithm this library can verify. No MAC and no `none` is, or will be, among them. */
const algorithms: ReadonlyMap<string, Algorithm> = new Map(
  Object.entries<Algorithm>({
    ES256: { kty: 'EC', crv: 'P-256', hash: 'sha256', integer: 32 },
    ES384: { kty: 'EC', crv: 'P-384', hash: 'sha384', integer: 48 },
    ES512: { kty: 'EC', crv: 'P-521', hash: 'sha512', integer: 66 },
    EdDSA: { kty: 'OKP', crv: 'Ed25519', hash: null },
    Ed25519: { kty: 'OKP', crv: 'Ed25519', hash: null },
    PS256: { kty: 'RSA', hash: 'sha256', pss: 32 },
    PS384: { kty: 'RSA', hash: 'sha384', pss: 48 },
    PS512: { kty: 'RSA', hash: 'sha512', pss: 64 },
    RS256: { kty: 'RSA', hash: 'sha256' },
    RS384: { kty: 'RSA', hash: 'sha384' },
    RS512: { kty: 'RSA', hash: 'sha512' },
  }),
)

/** The names of all supported algorithms, in the order they are announced. */
export const supportedAlgorithms: readonly string[] = Object.freeze([...algorithms.keys()])

/** Whether a JWK of this type and curve may be used with `alg` (RFC 7518 section 3.1). */
export function suitsAlgorithm(alg: string, jwk: { kty?: unknown; crv?: unknown }): boolean {
  const algorithm = algorithms.get(alg)
  if (algorithm === undefined || algorithm.kty !== jwk.kty) return false
  return algorithm.crv === undefined || algorithm.crv === jwk.crv
}

/** Verifies one signature. An unknown algorithm or a malformed signature is `false`. */
export function verifySignature(
  alg: string,
  key: KeyObject,
  input: Buffer,
  signature: Buffer,
): boolean {
  const algorithm = algorithms.get(alg)
  if (algorithm === undefined) return false
  if (algorithm.integer !== undefined) {
    if (signature.length !== algorithm.integer * 2) return false
    return verify(algorithm.hash, input, key, derFromConcatenated(signature, algorithm.integer))
  }
  if (algorithm.pss !== undefined) {
    const padding = constants.RSA_PKCS1_PSS_PADDING
    return verify(algorithm.hash, input, { key, padding, saltLength: algorithm.pss }, signature)
  }
  return verify(algorithm.hash, input, key, signature)
}

/** ECDSA r || s (RFC 7518 section 3.4) as the DER sequence of two integers. */
function derFromConcatenated(signature: Buffer, integer: number): Buffer {
  const r = leadingZeros(signature, 0, integer)
  const s = leadingZeros(signature, integer, integer)
  // A DER integer is signed: a first byte of 0x80 and above needs a zero before it.
  const rPad = (signature[r] as number) >> 7
  const sPad = (signature[s] as number) >> 7
  const rLength = integer - r + rPad
  const sLength = integer * 2 - s + sPad
  const body = rLength + sLength + 4
  const long = body > 0x7f ? 1 : 0
  const der = Buffer.allocUnsafe(body + 2 + long)
  let at = 0
  der[at++] = 0x30
  if (long) der[at++] = 0x81
  der[at++] = body
  der[at++] = 0x02
  der[at++] = rLength
  if (rPad) der[at++] = 0
  at += signature.copy(der, at, r, integer)
  der[at++] = 0x02
  der[at++] = sLength
  if (sPad) der[at++] = 0
  signature.copy(der, at, s)
  return der
}

/** Index of the first byte that counts, keeping one byte of a zero. */
function leadingZeros(bytes: Buffer, start: number, length: number): number {
  let at = start
  while (at < start + length - 1 && bytes[at] === 0) at++
  return at
}
