import { constants, createPublicKey, hash, type KeyObject, verify } from 'node:crypto'
import { TokenBindingError } from './token-binding-error.ts'

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
 * connections. Two generations bound the memory: when the young one is full it becomes the old
 * one, and what the old one held and nobody asked for is gone. Only keys that have verified a
 * signature enter, so that a flood of invented keys costs the flooder a signature each.
 */
const generationSize = 2048
let young = new Map<string, ImportedKey>()
let old = new Map<string, ImportedKey>()

function remember(key: ImportedKey): void {
  if (young.size >= generationSize) {
    old = young
    young = new Map()
  }
  young.set(key.name.id, key)
}

/**
 * Checks one signature and gives the ID of its key; throws where the key or the signature is bad.
 * RFC 8471 section 3.3: signed are the type, the key parameters and the exported keying material.
 */
export function verifySignature(
  type: number,
  keyParameters: KeyParameters,
  idBytes: Buffer,
  signature: Buffer,
  ekm: Uint8Array,
): TokenBindingId {
  const id = idBytes.toString('base64url')
  const known = young.get(id)
  const key = known ?? old.get(id) ?? importKey(id, idBytes, keyParameters)

  const signed = Buffer.allocUnsafe(2 + ekm.length)
  signed[0] = type
  signed[1] = keyParametersNumber(keyParameters)
  signed.set(ekm, 2)

  if (signatureIsValid(keyParameters, key.publicKey, signed, signature) !== true) {
    throw new TokenBindingError(
      'invalid_signature',
      `signature of the Token Binding of type ${type} is not valid on this connection`,
    )
  }
  if (known === undefined) remember(key)
  return key.name
}

function signatureIsValid(
  keyParameters: KeyParameters,
  key: KeyObject,
  signed: Buffer,
  signature: Buffer,
): boolean {
  try {
    switch (keyParameters) {
      case 'ecdsap256':
        return signature.length === 64 && verify('sha256', signed, key, toDer(signature))
      case 'rsa2048_pss':
        return verify(
          'sha256',
          signed,
          { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 },
          signature,
        )
      case 'rsa2048_pkcs1.5':
        return verify('sha256', signed, key, signature)
    }
  } catch {
    // OpenSSL could not even compute it.
    return false
  }
}

/** R || S as an ECDSA-Sig-Value: Node is a third slower on the raw form (`ieee-p1363`). */
function toDer(signature: Buffer): Buffer {
  const der = Buffer.allocUnsafe(72)
  let end = writeDerInteger(der, 2, signature, 0)
  end = writeDerInteger(der, end, signature, 32)
  der[0] = 0x30
  der[1] = end - 2
  return der.subarray(0, end)
}

function writeDerInteger(der: Buffer, at: number, source: Buffer, offset: number): number {
  let start = offset
  const last = offset + 31
  while (start < last && source[start] === 0) start += 1
  const negative = source.readUInt8(start) >= 0x80
  const length = last - start + 1 + (negative ? 1 : 0)
  let position = at
  der[position++] = 0x02
  der[position++] = length
  if (negative) der[position++] = 0
  return position + source.copy(der, position, start, last + 1)
}

function importKey(id: string, idBytes: Buffer, keyParameters: KeyParameters): ImportedKey {
  const encoded = publicKeyDer(keyParameters, idBytes)
  let publicKey: KeyObject
  try {
    publicKey = createPublicKey({ key: encoded, format: 'der', type: 'spki' })
  } catch (cause) {
    throw malformedKey('a point on the curve', cause)
  }
  return { name: makeTokenBindingId(id, idBytes, keyParameters), publicKey }
}

const ecPrefix = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex')
const rsaAlgorithm = Buffer.from('300d06092a864886f70d0101010500', 'hex')

/** The key inside an ID as SubjectPublicKeyInfo; throws unless it is encoded the one right way. */
function publicKeyDer(keyParameters: KeyParameters, idBytes: Buffer): Buffer {
  if (keyParameters === 'ecdsap256') return Buffer.concat([ecPrefix, ecPoint(idBytes)])
  const { modulus, exponent } = rsaKey(idBytes)
  const key = derValue(0x30, derUnsigned(modulus), derUnsigned(exponent))
  return derValue(0x30, rsaAlgorithm, derValue(0x03, Buffer.of(0), key))
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
  if (exponent[0] === 0) throw malformedKey('an exponent without leading zeros')
  // With exponent 1 everybody can "sign"; an even one has no private key. 2^256 is the bound of
  // FIPS 186-5: a longer one only makes the server work.
  const isOne = exponent.length === 1 && exponent[0] === 1
  if (isOne || exponent.readUInt8(exponent.length - 1) % 2 === 0 || exponent.length > 32) {
    throw malformedKey('an odd exponent between 3 and 2^256')
  }
  return { modulus, exponent }
}

function derUnsigned(value: Buffer): Buffer {
  return value.readUInt8(0) >= 0x80 ? derValue(0x02, Buffer.of(0), value) : derValue(0x02, value)
}

function derValue(tag: number, ...parts: Buffer[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  const header = length < 0x80 ? [tag, length] : [tag, 0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from(header), ...parts])
}

function malformedKey(expected: string, cause?: unknown): TokenBindingError {
  return new TokenBindingError(
    'malformed_key',
    `Token Binding public key is malformed: expected ${expected}`,
    { cause },
  )
}
