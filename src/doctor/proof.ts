import { hash, randomUUID } from 'node:crypto'
import { type CryptoKey, exportJWK, SignJWT } from 'jose'

export interface KeyPair {
  readonly publicKey: CryptoKey
  readonly privateKey: CryptoKey
}

/** A DPoP proof (RFC 9449 section 4.2) made by hand, so that it can be made wrong. */
export async function makeProof(
  { publicKey, privateKey }: KeyPair,
  {
    method,
    url,
    accessToken,
    iat,
    nonce,
    jti = randomUUID(),
  }: {
    method: string
    url: string
    accessToken?: string
    iat?: number
    nonce?: string
    jti?: string
  },
): Promise<string> {
  const ath = accessToken && { ath: hash('sha256', accessToken, 'base64url') }
  return new SignJWT({ htm: method, htu: url, jti, ...ath, ...(nonce && { nonce }) })
    .setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk: await exportJWK(publicKey) })
    .setIssuedAt(iat)
    .sign(privateKey)
}
