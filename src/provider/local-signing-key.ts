import {
  createPrivateKey,
  createPublicKey,
  type JsonWebKey,
  type KeyObject,
  sign,
} from 'node:crypto'
import { ExternalSigningKey, type JWK } from 'oidc-provider'

/**
 * An ES256 key that signs in this thread. The engine signs by WebCrypto, which costs twice as much:
 * a job for the thread pool, and Node 24's `ieee-p1363` encoding. One signature is shorter than the
 * way there and back.
 */
export class LocalSigningKey extends ExternalSigningKey {
  readonly #privateKey: KeyObject
  readonly #publicKey: KeyObject
  readonly #kid: string | undefined

  constructor(jwk: JWK) {
    super()
    this.#privateKey = createPrivateKey({ format: 'jwk', key: jwk as JsonWebKey })
    this.#publicKey = createPublicKey(this.#privateKey)
    this.#kid = jwk.kid
  }

  override get kid(): string | undefined {
    return this.#kid
  }

  override get alg(): string {
    return 'ES256'
  }

  override keyObject(): KeyObject {
    return this.#publicKey
  }

  override sign(data: Uint8Array): Buffer {
    return concatenatedFromDer(sign('sha256', data, this.#privateKey))
  }
}

/** The engine's keys: those of ES256 sign here; RSA is slow, and better off in the thread pool. */
export function signingKeys(jwks: readonly JWK[]): (JWK | ExternalSigningKey)[] {
  return jwks.map((jwk) => (jwk.alg === 'ES256' ? new LocalSigningKey(jwk) : jwk))
}

/** The DER sequence of two integers as r || s (RFC 7518 section 3.4), for P-256. */
function concatenatedFromDer(der: Buffer): Buffer {
  const rLength = der[3] as number
  const r = der.subarray(4, 4 + rLength)
  const s = der.subarray(6 + rLength)
  const signature = Buffer.alloc(64)
  // A DER integer has a zero before a first bit of one, and none of the zeros it does not need.
  for (const [integer, end] of [[r, 32] as const, [s, 64] as const]) {
    const magnitude = integer.subarray(-32)
    signature.set(magnitude, end - magnitude.length)
  }
  return signature
}
