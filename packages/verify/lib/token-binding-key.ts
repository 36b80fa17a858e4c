import { createPublicKey, hash, type JsonWebKey, type KeyObject } from 'node:crypto'
import { RecentMap } from './recent-map.ts'
import { isSafeExponent } from './rsa-exponent.ts'
import { verifySignature } from './signature.ts'
import { TokenBindingError } from './token-binding-error.ts'
import type { TokenBindingStruct } from './token-binding-message.ts'

/** Token Binding Key Parameters by their registered names (RFC 8471 section 6.1). */
export type KeyParameters = 'rsa2048_pkcs1.5' | 'rsa2048_pss' | 'ecdsap256'

const registered: readonly KeyParameters[] = ['rsa2048_pkcs1.5', 'rsa2048_pss', 'ecdsap256']

/** The name behind the number on the wire, or nothing where the number is not registered. */
export function keyParametersOf(id: Buffer): KeyParameters | undefined {
  return registered[id.readUInt8(0)]
}

/** The number on the wire for a name. */
export function keyParametersNumber(name: KeyParameters): number {
  return registered.indexOf(name)
}

/** A client's key for one server, as the protocols above TLS name it. */
export interface TokenBindingId {
  /** base64url of the Token Binding ID. */
  readonly id: string
  /** What `cnf.tbh` holds: base64url of the SHA-256 of the ID's bytes. */
  readonly tbh: string
  readonly keyParameters: KeyParameters
}

/** The hash is over the ID's bytes as received; an ID is never made from a parsed key. */
export function makeTokenBindingId(
  id: string,
  bytes: Buffer,
  keyParameters: KeyParameters,
): TokenBindingId {
  return Object.freeze({ id, tbh: hash('sha256', bytes, 'base64url'), keyParameters })
}

interface ImportedKey {
  readonly name: TokenBindingId
  readonly publicKey: KeyObject
}

/*
 * Importing a key costs half as much as verifying with it, and a client keeps its key over many
 * connections. Only keys that have verified a signature enter, so that a flood of invented keys
 * costs the flooder a signature each.
 */
const knownKeys = new RecentMap<ImportedKey>(2048)

/** The JSON Web Signature algorithm that is the signature of RFC 8471 section 3.3. */
const algorithms = {
  'rsa2048_pkcs1.5': 'RS256',
  rsa2048_pss: 'PS256',
  ecdsap256: 'ES256',
} as const satisfies Record<KeyParameters, string>

/**
 * Checks one signature and gives the ID of its key; throws where the key or the signature is bad.
 * RFC 8471 section 3.3: signed are the type, the key parameters and the exported keying material.
 */
export function verifyTokenBindingSignature(
  { type, id: idBytes, signature }: TokenBindingStruct,
  keyParameters: KeyParameters,
  ekm: Uint8Array,
): TokenBindingId {
  const id = idBytes.toString('base64url')
  const known = knownKeys.get(id)
  const key = known ?? importKey(id, idBytes, keyParameters)

  const signed = Buffer.allocUnsafe(2 + ekm.length)
  signed[0] = type
  signed[1] = keyParametersNumber(keyParameters)
  signed.set(ekm, 2)

  if (!isValid(algorithms[keyParameters], key.publicKey, signed, signature)) {
    throw new TokenBindingError(
      'invalid_signature',
      `signature of the Token Binding of type ${type} is not valid on this connection`,
    )
  }
  if (known === undefined) knownKeys.set(id, key)
  return key.name
}

function isValid(alg: string, key: KeyObject, signed: Buffer, signature: Buffer): boolean {
  try {
    return verifySignature(alg, key, signed, signature)
  } catch {
    // OpenSSL could not even compute it.
    return false
  }
}

function importKey(id: string, idBytes: Buffer, keyParameters: KeyParameters): ImportedKey {
  const key = publicJwk(keyParameters, idBytes)
  let publicKey: KeyObject
  try {
    publicKey = createPublicKey({ key, format: 'jwk' })
  } catch (cause) {
    throw malformedKey('a point on the curve', cause)
  }
  return { name: makeTokenBindingId(id, idBytes, keyParameters), publicKey }
}

/** The key inside an ID; throws unless it is encoded the one way that its key parameters allow. */
function publicJwk(keyParameters: KeyParameters, idBytes: Buffer): JsonWebKey {
  if (keyParameters === 'ecdsap256') {
    const point = ecPoint(idBytes)
    const x = point.toString('base64url', 0, 32)
    const y = point.toString('base64url', 32)
    return { kty: 'EC', crv: 'P-256', x, y }
  }
  const { modulus, exponent } = rsaKey(idBytes)
  return { kty: 'RSA', n: modulus.toString('base64url'), e: exponent.toString('base64url') }
}

/** Throws unless the key inside an ID has the one form that its key parameters allow. */
export function checkKeyEncoding(keyParameters: KeyParameters, idBytes: Buffer): void {
  if (keyParameters === 'ecdsap256') ecPoint(idBytes)
  else rsaKey(idBytes)
}

/** An ID is key_parameters (1), key_length (2), TokenBindingPublicKey. */
const keyOffset = 3

/** TB_ECPoint: a length byte of 64, X and Y; leading zeros kept, no 0x04 in front. */
function ecPoint(idBytes: Buffer): Buffer {
  if (idBytes.length !== keyOffset + 65 || idBytes[keyOffset] !== 64) {
    throw malformedKey('a length byte of 64, X and Y')
  }
  return idBytes.subarray(keyOffset + 1)
}

/** RSAPublicKey: the modulus behind two length bytes, the exponent behind one. */
function rsaKey(idBytes: Buffer): { modulus: Buffer; exponent: Buffer } {
  const exponentAt = keyOffset + 2 + 256 + 1
  if (idBytes.length <= exponentAt || idBytes.readUInt16BE(keyOffset) !== 256) {
    throw malformedKey('a modulus of 256 bytes and an exponent')
  }
  const modulus = idBytes.subarray(keyOffset + 2, exponentAt - 1)
  const exponent = idBytes.subarray(exponentAt)
  if (exponent.length !== idBytes[exponentAt - 1]) {
    throw malformedKey('an exponent that fills the rest of the key')
  }
  // The top bit makes it 2048 bits, and rules out a second, longer encoding of a shorter modulus.
  if (modulus.readUInt8(0) < 0x80) throw malformedKey('a modulus of 2048 bits')
  // 2^256 is the bound of FIPS 186-5: a longer one only makes the server work.
  if (!isSafeExponent(exponent) || exponent.length > 32) {
    throw malformedKey('an odd exponent between 65537 and 2^256, without leading zeros')
  }
  return { modulus, exponent }
}

function malformedKey(expected: string, cause?: unknown): TokenBindingError {
  return new TokenBindingError(
    'malformed_key',
    `Token Binding public key is malformed: expected ${expected}`,
    { cause },
  )
}
