import {
  constants,
  createPrivateKey,
  createPublicKey,
  type JsonWebKey,
  type KeyObject,
  type SignKeyObjectInput,
  sign,
} from 'node:crypto'
import { promisify } from 'node:util'
import { ExternalSigningKey, type JWK } from 'oidc-provider'

const signInThreadPool = promisify(sign)

/**
 * A key that signs by `node:crypto`: in this thread where that is quick. The engine signs by
 * WebCrypto, which for ES256 costs twice as much: a job for the thread pool, and Node 24's
 * `ieee-p1363` encoding. One such signature is shorter than the way there and back; an RSA one is
 * not.
 */
export class LocalSigningKey extends ExternalSigningKey {
  readonly #privateKey: KeyObject
  readonly #publicKey: KeyObject
  readonly #kid: string | undefined
  readonly #alg: string

  constructor(jwk: JWK) {
    super()
    this.#privateKey = createPrivateKey({ format: 'jwk', key: jwk as JsonWebKey })
    this.#publicKey = createPublicKey(this.#privateKey)
    this.#kid = jwk.kid
    this.#alg = jwk.alg ?? 'ES256'
  }

  override get kid(): string | undefined {
    return this.#kid
  }

  override get alg(): string {
    return this.#alg
  }

  override keyObject(): KeyObject {
    return this.#publicKey
  }

  /** What is published of the key (RFC 7517). */
  get publicJwk(): JWK {
    const { kid, alg } = this
    return { ...this.#publicKey.export({ format: 'jwk' }), kid, alg, use: 'sig' } as JWK
  }

  override sign(data: Uint8Array): Buffer | Promise<Buffer> {
    switch (this.#alg) {
      case 'ES256':
        return concatenatedFromDer(sign('sha256', data, this.#privateKey))
      case 'EdDSA':
        return sign(null, data, this.#privateKey)
      case 'RS256':
        return signInThreadPool('sha256', data, this.#privateKey)
      case 'PS256':
        return signInThreadPool('sha256', data, withPss(this.#privateKey))
      default:
        throw new TypeError(`${this.#alg} is not an algorithm of this server`)
    }
  }
}

/** RFC 7518 section 3.5: a salt as long as the hash. */
function withPss(key: KeyObject): SignKeyObjectInput {
  return { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }
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
