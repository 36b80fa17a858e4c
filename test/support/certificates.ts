import { hash, randomBytes, webcrypto, X509Certificate } from 'node:crypto'
import * as x509 from '../../src/certificates/x509.ts'

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const day = 24 * 60 * 60 * 1000

export interface TestCertificate {
  /** PEM, for TLS clients. */
  readonly cert: string
  readonly key: string
  readonly certificate: X509Certificate
  readonly der: Buffer
  readonly thumbprint: string
}

export interface CertificateRequest {
  readonly subject?: string
  readonly names?: x509.JsonGeneralNames
  readonly notBefore?: Date
  readonly notAfter?: Date
  readonly usage?: string[]
  readonly extensions?: x509.Extension[]
  /** Of the certificate's own key; default P-256. */
  readonly keys?: webcrypto.RsaHashedKeyGenParams
  /** Of the signature; an RSA authority has the one of its key. Default SHA-256. */
  readonly hash?: 'SHA-1' | 'SHA-256'
}

export interface TestAuthority extends TestCertificate {
  issue(request?: CertificateRequest): Promise<TestCertificate>
  intermediate(
    request?: CertificateRequest & { pathLength?: number; ca?: boolean },
  ): Promise<TestAuthority>
  /** A revocation list, PEM. */
  crl(
    revoked?: readonly TestCertificate[],
    changes?: { nextUpdate?: Date; extensions?: x509.Extension[] },
  ): Promise<string>
}

export const daysFromNow = (days: number) => new Date(Date.now() + days * day)

export async function createAuthority(
  subject = 'CN=Test authority',
  keyAlgorithm?: webcrypto.RsaHashedKeyGenParams,
): Promise<TestAuthority> {
  const keys = await newKeys(keyAlgorithm)
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: subject,
    notBefore: daysFromNow(-1),
    notAfter: daysFromNow(365),
    keys,
    signingAlgorithm: signingAlgorithm(keys),
    extensions: await authorityExtensions(keys.publicKey),
  })
  return asAuthority(certificate, keys)
}

/** A certificate that its own key has signed, as `self_signed_tls_client_auth` has them. */
export async function selfSigned(request: CertificateRequest = {}): Promise<TestCertificate> {
  const keys = await newKeys()
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: request.subject ?? 'CN=self-signed client',
    notBefore: request.notBefore ?? daysFromNow(-1),
    notAfter: request.notAfter ?? daysFromNow(30),
    keys,
    signingAlgorithm: algorithm,
  })
  return asCertificate(certificate, keys)
}

async function asAuthority(
  certificate: x509.X509Certificate,
  keys: webcrypto.CryptoKeyPair,
): Promise<TestAuthority> {
  const sign = async (request: CertificateRequest, extensions: x509.Extension[]) => {
    const subjectKeys = await newKeys(request.keys)
    const signed = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: request.subject ?? 'CN=client',
      issuer: certificate.subject,
      notBefore: request.notBefore ?? daysFromNow(-1),
      notAfter: request.notAfter ?? daysFromNow(30),
      publicKey: subjectKeys.publicKey,
      signingKey: keys.privateKey,
      signingAlgorithm: signingAlgorithm(keys, request.hash),
      extensions: [
        ...extensions,
        ...(request.names ? [new x509.SubjectAlternativeNameExtension(request.names)] : []),
        ...(request.extensions ?? []),
        await x509.AuthorityKeyIdentifierExtension.create(certificate.publicKey),
      ],
    })
    return { signed, subjectKeys }
  }
  return {
    ...(await asCertificate(certificate, keys)),
    async issue(request = {}) {
      const { signed, subjectKeys } = await sign(request, [
        new x509.BasicConstraintsExtension(false),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension(request.usage ?? [x509.ExtendedKeyUsage.clientAuth]),
      ])
      return asCertificate(signed, subjectKeys)
    },
    async intermediate({ pathLength, ca = true, ...request } = {}) {
      const { signed, subjectKeys } = await sign({ subject: 'CN=Intermediate', ...request }, [
        new x509.BasicConstraintsExtension(ca, pathLength, true),
        new x509.KeyUsagesExtension(
          x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
          true,
        ),
      ])
      return asAuthority(signed, subjectKeys)
    },
    async crl(revoked = [], { nextUpdate = daysFromNow(7), extensions = [] } = {}) {
      const list = await x509.X509CrlGenerator.create({
        issuer: certificate.subject,
        thisUpdate: daysFromNow(-1),
        nextUpdate,
        extensions,
        signingAlgorithm: algorithm,
        signingKey: keys.privateKey,
        entries: revoked.map((each) => ({
          serialNumber: each.certificate.serialNumber.toLowerCase(),
          revocationDate: daysFromNow(-1),
        })),
      })
      return list.toString('pem')
    },
  }
}

async function authorityExtensions(key: webcrypto.CryptoKey): Promise<x509.Extension[]> {
  return [
    new x509.BasicConstraintsExtension(true, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    await x509.SubjectKeyIdentifierExtension.create(key),
  ]
}

async function asCertificate(
  certificate: x509.X509Certificate,
  { privateKey }: webcrypto.CryptoKeyPair,
): Promise<TestCertificate> {
  const der = Buffer.from(certificate.rawData)
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', privateKey)
  return {
    cert: certificate.toString('pem'),
    key: x509.PemConverter.encode(pkcs8, 'PRIVATE KEY'),
    certificate: new X509Certificate(der),
    der,
    thumbprint: hash('sha256', der, 'base64url'),
  }
}

function newKeys(
  of: webcrypto.EcKeyGenParams | webcrypto.RsaHashedKeyGenParams = algorithm,
): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(of, true, ['sign', 'verify'])
}

function signingAlgorithm({ privateKey }: webcrypto.CryptoKeyPair, hash = 'SHA-256') {
  return { hash, ...privateKey.algorithm }
}

function serialNumber(): string {
  return `01${randomBytes(15).toString('hex')}`
}
