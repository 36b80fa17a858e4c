import { randomBytes, webcrypto } from 'node:crypto'
import * as x509 from '../certificates/x509.ts'

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

export interface ClientCertificatePem {
  readonly cert: string
  readonly key: string
  /** As `x5c` and most proxies write it. */
  readonly base64: string
  readonly jwk: webcrypto.JsonWebKey
}

/** A certificate for one day, signed by its own key (RFC 8705 section 2.2). */
export async function makeClientCertificate(name: string): Promise<ClientCertificatePem> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: `01${randomBytes(15).toString('hex')}`,
    name: `CN=${name}`,
    notAfter: new Date(Date.now() + 24 * 60 * 60 * 1000),
    keys,
    signingAlgorithm: algorithm,
  })
  const { kty, crv, x, y } = await webcrypto.subtle.exportKey('jwk', keys.publicKey)
  return {
    cert: certificate.toString('pem'),
    key: x509.PemConverter.encode(
      await webcrypto.subtle.exportKey('pkcs8', keys.privateKey),
      'PRIVATE KEY',
    ),
    base64: certificate.toString('base64'),
    jwk: { kty, crv, x, y } as webcrypto.JsonWebKey,
  }
}
