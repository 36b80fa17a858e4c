import { createPublicKey, hash, type KeyObject } from 'node:crypto'
import { decodeBase64url } from './base64url.ts'
import { isSafeExponent } from './rsa-exponent.ts'

/** A public key and its RFC 7638 SHA-256 thumbprint. */
export type PublicKey = Readonly<{ key: KeyObject; thumbprint: string }>

/** Members that only a private or a symmetric key has (RFC 7518 section 6). */
const privateMembers = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'] as const

const coordinateBytes: ReadonlyMap<string, number> = new Map([
  ['P-256', 32],
  ['P-384', 48],
  ['P-521', 66],
])

/** Whether a JWK carries any private or symmetric key material. */
export function hasPrivateMembers(jwk: Record<string, unknown>): boolean {
  return privateMembers.some((member) => jwk[member] !== undefined)
}

/**
 * Imports a public JWK, or returns `undefined` for one that is unknown, weak or not canonical.
 *
 * One key must have one thumbprint, so every number has to be in its one canonical spelling:
 * strict base64url, full-width coordinates (RFC 7518 section 6.2.1.2), RSA integers without
 * leading zeros (section 6.3.1.1). RSA keys are taken from 2048 to 4096 bits with an exponent from
 * 65537 to four bytes: less is weak, and more is a way to make each verification expensive.
 */
export function importPublicJwk(jwk: Record<string, unknown>): PublicKey | undefined {
  const { kty, crv, x, y, n, e } = jwk
  if (kty === 'EC' && isText(crv) && isText(x) && isText(y)) {
    const bytes = coordinateBytes.get(crv)
    if (bytes === undefined || !isBytes(x, bytes) || !isBytes(y, bytes)) return undefined
    // RFC 7638 section 3.2: the required members in lexicographic order. Their characters are
    // known by now to need no escape, so that the canonical JSON can be put together by hand.
    const canonical = `{"crv":"${crv}","kty":"EC","x":"${x}","y":"${y}"}`
    return importKey({ kty, crv, x, y }, canonical)
  }
  if (kty === 'OKP' && crv === 'Ed25519' && isText(x)) {
    if (!isBytes(x, 32)) return undefined
    return importKey({ kty, crv, x }, `{"crv":"Ed25519","kty":"OKP","x":"${x}"}`)
  }
  if (kty === 'RSA' && isText(n) && isText(e)) {
    const modulus = unsignedInteger(n)
    const exponent = unsignedInteger(e)
    if (modulus === undefined || modulus.length < 256 || modulus.length > 512) return undefined
    // 256 bytes with a clear top bit would be 2047 bits.
    if (modulus.length === 256 && (modulus[0] as number) < 0x80) return undefined
    if (exponent === undefined || exponent.length > 4) return undefined
    if (!isSafeExponent(exponent)) return undefined
    return importKey({ kty, n, e }, `{"e":"${e}","kty":"RSA","n":"${n}"}`)
  }
  return undefined
}

function importKey(jwk: Record<string, string>, canonical: string): PublicKey | undefined {
  try {
    const key = createPublicKey({ format: 'jwk', key: jwk })
    return Object.freeze({ key, thumbprint: hash('sha256', canonical, 'base64url') })
  } catch {
    // A point that is not on its curve, for instance.
    return undefined
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

function isBytes(text: string, length: number): boolean {
  return decodeBase64url(text)?.length === length
}

/** RFC 7518 section 2, Base64urlUInt: no leading zero byte. */
function unsignedInteger(text: string): Buffer | undefined {
  const bytes = decodeBase64url(text)
  return bytes === undefined || bytes[0] === 0 ? undefined : bytes
}
