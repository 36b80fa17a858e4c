import { generateKeyPairSync, hash, sign } from 'node:crypto'

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** An ES256 key that signs whatever it is told, at once. */
export function makeSigningKey() {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { kty, crv, x, y } = publicKey.export({ format: 'jwk' })
  const jwk = { kty, crv, x, y }
  return {
    jwk,
    publicKey,
    jkt: hash('sha256', JSON.stringify({ crv, kty, x, y }), 'base64url'),
    sign(header: object, payload: object): string {
      const input = `${encode({ alg: 'ES256', ...header })}.${encode(payload)}`
      const key = { key: privateKey, dsaEncoding: 'ieee-p1363' } as const
      return `${input}.${sign('sha256', Buffer.from(input), key).toString('base64url')}`
    },
  }
}

export type SigningKey = ReturnType<typeof makeSigningKey>
