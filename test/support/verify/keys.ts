import { constants, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'

export type TestKey = Readonly<{
  alg: string
  privateKey: KeyObject
  publicJwk: Record<string, unknown>
  privateJwk: Record<string, unknown>
}>

const curves: Record<string, string> = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' }

export function makeKey(alg = 'ES256'): TestKey {
  const { privateKey, publicKey } = generate(alg)
  return {
    alg,
    privateKey,
    publicJwk: publicKey.export({ format: 'jwk' }) as Record<string, unknown>,
    privateJwk: privateKey.export({ format: 'jwk' }) as Record<string, unknown>,
  }
}

function generate(alg: string) {
  const namedCurve = curves[alg]
  if (namedCurve !== undefined) return generateKeyPairSync('ec', { namedCurve })
  if (alg === 'EdDSA' || alg === 'Ed25519') return generateKeyPairSync('ed25519')
  return generateKeyPairSync('rsa', { modulusLength: 2048 })
}

export function signJws(
  key: TestKey,
  header: Record<string, unknown>,
  payload: Record<string, unknown> | string,
): string {
  const text = typeof payload === 'string' ? payload : JSON.stringify(payload)
  const input = `${encode(JSON.stringify(header))}.${encode(text)}`
  return `${input}.${signRaw(key, input).toString('base64url')}`
}

export function signRaw(key: TestKey, input: string): Buffer {
  const data = Buffer.from(input)
  const hash = /^Ed/.test(key.alg) ? null : `sha${key.alg.slice(2)}`
  if (key.alg.startsWith('ES')) {
    return sign(hash, data, { key: key.privateKey, dsaEncoding: 'ieee-p1363' })
  }
  if (key.alg.startsWith('PS')) {
    const padding = constants.RSA_PKCS1_PSS_PADDING
    const saltLength = constants.RSA_PSS_SALTLEN_DIGEST
    return sign(hash, data, { key: key.privateKey, padding, saltLength })
  }
  return sign(hash, data, key.privateKey)
}

export function encode(text: string | Buffer): string {
  return Buffer.from(text).toString('base64url')
}

/** Exponents of RSA keys by which anybody, or nobody, can sign, or that forgive no mistake. */
export const weakExponents = [
  Buffer.of(1),
  Buffer.of(3),
  Buffer.of(17),
  Buffer.of(0xff, 0xff),
  Buffer.of(1, 0, 0),
  Buffer.of(1, 0, 2),
  Buffer.of(0, 1, 0, 1),
]
