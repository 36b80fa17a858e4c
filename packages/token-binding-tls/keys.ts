import { generateKeyPair, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import { getDomain } from 'tldts'
import { allKeyParameters, type KeyParameters } from './native.ts'

/** A client's key for one registered domain. */
export interface TokenBindingKey {
  readonly keyParameters: KeyParameters
  readonly privateKey: KeyObject
  /** The bytes of the Token Binding ID (RFC 8471 section 3.2). */
  readonly id: Buffer
}

/**
 * Where a client keeps its keys. Two calls with the same arguments must give the same key, also
 * when the second comes before the first is answered. One store is one user: sharing it would let
 * servers link two people.
 */
export interface TokenBindingKeys {
  keyFor(registeredDomain: string, keyParameters: KeyParameters): Promise<TokenBindingKey>
}

/** Keys that live as long as the process, as those of a private window do (RFC 8473 section 8.2). */
export function createMemoryKeys(): TokenBindingKeys {
  const keys = new Map<string, Promise<TokenBindingKey>>()
  return {
    keyFor(registeredDomain, keyParameters) {
      const name = `${keyParameters} ${registeredDomain}`
      const known = keys.get(name)
      if (known) return known
      const made = generateTokenBindingKey(keyParameters)
      keys.set(name, made)
      made.catch(() => keys.delete(name))
      return made
    },
  }
}

/**
 * RFC 8473 section 2.1: a key is for a registered domain, the public suffix and one label, where
 * private suffixes such as `github.io` count: the scope must not be wider than that of cookies.
 * A host that has none, such as an address or `localhost`, is its own.
 */
export function registeredDomain(host: string): string {
  return getDomain(host, { allowPrivateDomains: true }) ?? host.toLowerCase()
}

const generate = promisify(generateKeyPair)

export async function generateTokenBindingKey(
  keyParameters: KeyParameters,
): Promise<TokenBindingKey> {
  const { privateKey, publicKey } =
    keyParameters === 'ecdsap256'
      ? await generate('ec', { namedCurve: 'P-256' })
      : await generate('rsa', { modulusLength: 2048 })
  return { keyParameters, privateKey, id: encodeTokenBindingId(keyParameters, publicKey) }
}

/** RFC 8471 section 3: key_parameters, key_length, TokenBindingPublicKey. */
export function encodeTokenBindingId(keyParameters: KeyParameters, publicKey: KeyObject): Buffer {
  const encoded =
    keyParameters === 'ecdsap256' ? encodeEcPoint(publicKey) : encodeRsaPublicKey(publicKey)
  return Buffer.concat([
    Buffer.of(allKeyParameters.indexOf(keyParameters)),
    uint16(encoded.length),
    encoded,
  ])
}

function encodeEcPoint(publicKey: KeyObject): Buffer {
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' })
  return Buffer.concat([Buffer.of(64), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')])
}

function encodeRsaPublicKey(publicKey: KeyObject): Buffer {
  const { n = '', e = '' } = publicKey.export({ format: 'jwk' })
  const modulus = Buffer.from(n, 'base64url')
  const exponent = Buffer.from(e, 'base64url')
  return Buffer.concat([uint16(modulus.length), modulus, Buffer.of(exponent.length), exponent])
}

function uint16(value: number): Buffer {
  return Buffer.of(value >> 8, value & 0xff)
}
