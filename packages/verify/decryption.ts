/** Encrypted access tokens: a signed JWT inside a JWE (RFC 9068 section 4, RFC 7516). */
import { type CompactJWEHeaderParameters, compactDecrypt, type JWK } from 'jose'
import { VerifyError } from './errors.ts'
import { checkNames, namesOf } from './lib/check.ts'
import { isObject } from './lib/json.ts'
import { decodeJson } from './lib/jwt.ts'

/** Options for encrypted tokens. */
export type DecryptionOptions = Readonly<{
  /** Private JWKs of this resource; each needs `alg`, and several need a `kid` each. */
  keys: readonly object[]
  /** JWE `enc` values accepted. Default `A256GCM`, `A128GCM`, `A256CBC-HS512`, `A128CBC-HS256`. */
  contentEncryption?: readonly string[]
}>

const decryptionOptions = namesOf<DecryptionOptions>({ keys: true, contentEncryption: true })

/** Gives the signed JWT inside an encrypted token. */
export type Decrypter = (token: string) => Promise<string>

/** The longest access token, encrypted or not: 16 KiB would not fit the header of most servers. */
export const maxTokenLength = 16_384

const contentEncryptionDefault = ['A256GCM', 'A128GCM', 'A256CBC-HS512', 'A128CBC-HS256']

/**
 * Only public-key encryption: with a shared secret (`dir`, `A*KW`) or a password (`PBES2-*`, whose
 * work factor the sender chooses) the sender would not need the resource's public key.
 */
const keyManagement = /^(?:RSA-OAEP(?:-256|-384|-512)?|ECDH-ES(?:\+A(?:128|192|256)KW)?)$/

/** @throws TypeError when a key cannot be used. */
export function createDecrypter(options: DecryptionOptions): Decrypter {
  checkNames('decryption', options, decryptionOptions)
  if (!Array.isArray(options.keys)) throw new TypeError('decryption.keys must be an array')
  const keys = options.keys.map((key): JWK => {
    const alg = isObject(key) ? key.alg : undefined
    if (typeof alg !== 'string' || !keyManagement.test(alg)) {
      throw new TypeError('decryption.keys: each key needs a public-key alg such as ECDH-ES')
    }
    return key as JWK
  })
  if (keys.length === 0) throw new TypeError('decryption.keys must not be empty')
  const allowed = {
    keyManagementAlgorithms: [...new Set(keys.map(({ alg }) => alg as string))],
    contentEncryptionAlgorithms: [...(options.contentEncryption ?? contentEncryptionDefault)],
    // Anyone may encrypt to this key, and what is inside is read before its signature is.
    maxDecompressedLength: maxTokenLength,
  }

  return async (token) => {
    try {
      if (decodeJson(token.slice(0, token.indexOf('.'))) === undefined) {
        throw new Error('the header is not a JSON object that names each member once')
      }
      const { plaintext } = await compactDecrypt(
        token,
        ({ alg, kid }: CompactJWEHeaderParameters) => {
          const fitting = keys.filter(
            (key) => key.alg === alg && (kid === undefined || key.kid === kid),
          )
          if (fitting.length !== 1) throw new Error('no key, or more than one, for this token')
          return fitting[0] as JWK
        },
        allowed,
      )
      return Buffer.from(plaintext).toString('latin1')
    } catch (cause) {
      throw new VerifyError('token_encryption', 'Access token cannot be decrypted', { cause })
    }
  }
}
