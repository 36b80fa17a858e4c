import { constants, createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'

/*
 * Token Binding messages made by hand from RFC 8471 section 3, independently of the code under
 * test, and open to every mistake: each field can be replaced.
 */

export const ekm: Buffer = createHash('sha256').update('keying material of a test').digest()

export interface TestKey {
  readonly keyParameters: number
  readonly privateKey: KeyObject
  /** TokenBindingPublicKey */
  readonly encoded: Buffer
}

const uint8 = (value: number) => Buffer.of(value)
const uint16 = (value: number) => Buffer.of(value >> 8, value & 0xff)
const vector8 = (bytes: Uint8Array) => Buffer.concat([uint8(bytes.length), bytes])
const vector16 = (bytes: Uint8Array) => Buffer.concat([uint16(bytes.length), bytes])

export function makeEcKey(): TestKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwk = publicKey.export({ format: 'jwk' })
  const point = [jwk.x ?? '', jwk.y ?? ''].map((text) => Buffer.from(text, 'base64url'))
  return { keyParameters: 2, privateKey, encoded: vector8(Buffer.concat(point)) }
}

export function makeRsaKey(keyParameters: 0 | 1): TestKey {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const { n = '', e = '' } = publicKey.export({ format: 'jwk' })
  const encoded = encodeRsa(Buffer.from(n, 'base64url'), Buffer.from(e, 'base64url'))
  return { keyParameters, privateKey, encoded }
}

export function encodeRsa(modulus: Buffer, exponent: Buffer): Buffer {
  return Buffer.concat([vector16(modulus), vector8(exponent)])
}

export function tokenBindingId(key: Pick<TestKey, 'encoded' | 'keyParameters'>): Buffer {
  return Buffer.concat([uint8(key.keyParameters), vector16(key.encoded)])
}

export interface BindingOverrides {
  readonly type?: number
  readonly keyParameters?: number
  readonly encoded?: Buffer
  readonly signature?: Buffer
  readonly extensions?: Buffer
  readonly signedEkm?: Buffer
  readonly signedType?: number
  readonly saltLength?: number
}

export function binding(key: TestKey, overrides: BindingOverrides = {}): Buffer {
  const {
    type = 0,
    keyParameters = key.keyParameters,
    encoded = key.encoded,
    extensions = Buffer.alloc(0),
    signedEkm = ekm,
    signedType = type,
    saltLength = 32,
  } = overrides
  const signed = Buffer.concat([Buffer.of(signedType, keyParameters), signedEkm])
  const signature = overrides.signature ?? signWith(key, signed, saltLength)
  return Buffer.concat([
    uint8(type),
    tokenBindingId({ keyParameters, encoded }),
    vector16(signature),
    vector16(extensions),
  ])
}

function signWith({ keyParameters, privateKey: key }: TestKey, signed: Buffer, saltLength: number) {
  if (keyParameters === 2) return sign('sha256', signed, { key, dsaEncoding: 'ieee-p1363' })
  if (keyParameters === 0) return sign('sha256', signed, key)
  return sign('sha256', signed, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength })
}

export function message(...bindings: readonly Buffer[]): string {
  return vector16(Buffer.concat(bindings)).toString('base64url')
}
