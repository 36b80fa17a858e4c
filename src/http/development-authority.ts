import { randomBytes, webcrypto } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import path from 'node:path'
import * as x509 from '../certificates/x509.ts'
import { writeOnce } from '../files/write-once.ts'
import { ListenError } from '../net/listen-error.ts'

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const day = 24 * 60 * 60 * 1000
const serverLifetime = 90 * day
const authorityLifetime = 3650 * day

export interface DevelopmentCertificate {
  /** PEM: the server's certificate and its private key. */
  readonly cert: string
  readonly key: string
  /** Where the authority's certificate lies, for clients that are to trust it. */
  readonly authorityFile: string
}

/**
 * A TLS certificate for loopback names and `hostnames`, from a certificate authority that is made
 * at first start and kept in `folder`. Clients trust that authority once
 * (`NODE_EXTRA_CA_CERTS`, `curl --cacert`); the server's certificate is made anew at every start.
 *
 * @throws {@link ListenError} `certificate_unusable`
 */
export async function developmentCertificate(
  folder: string,
  hostnames: readonly string[],
  { now = Date.now }: { now?: () => number } = {},
): Promise<DevelopmentCertificate> {
  const authority = await openAuthority(folder, now).catch((cause: NodeJS.ErrnoException) => {
    if (cause instanceof ListenError || !cause.code) throw cause
    throw new ListenError(
      'certificate_unusable',
      `The development certificate cannot be kept in ${folder} (${cause.code}). ` +
        'Set HOLDFAST_DATA to a folder that can be written.',
      { cause },
    )
  })
  const keys = await generateKeys()
  const names = new Set(['localhost', '127.0.0.1', '::1', ...hostnames])
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: 'CN=localhost',
    issuer: authority.certificate.subject,
    notBefore: new Date(now() - day),
    notAfter: new Date(now() + serverLifetime),
    publicKey: keys.publicKey,
    signingKey: authority.privateKey,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(
        [...names].map((value) => ({ type: isIP(value) ? 'ip' : 'dns', value })),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(authority.certificate.publicKey),
    ],
  })
  return {
    cert: certificate.toString('pem'),
    key: await exportPem(keys.privateKey),
    authorityFile: authority.file,
  }
}

interface Authority {
  file: string
  certificate: x509.X509Certificate
  privateKey: webcrypto.CryptoKey
}

// The private key and the certificate lie in one file, so that they always belong together; the
// other file is a copy of the certificate, to be given away.
const authorityName = 'authority-key.pem'
const certificateName = 'authority.pem'

async function openAuthority(folder: string, now: () => number): Promise<Authority> {
  const file = path.join(folder, authorityName)
  const kept = await readAuthority(file)
  const signs = now() + serverLifetime
  if (kept && kept.certificate.notAfter.getTime() > signs) return publish(folder, kept)
  const pem = await makeAuthority(now)
  await mkdir(folder, { recursive: true })
  // Of first starts at once one writes, and all sign with what it wrote.
  await (kept ? replaceFile(file, pem, 0o600) : writeOnce(file, pem))
  const made = await readAuthority(file)
  if (!made) throw new Error(`the certificate authority in ${folder} cannot be read back`)
  return publish(folder, made)
}

async function publish(folder: string, authority: Omit<Authority, 'file'>): Promise<Authority> {
  const file = path.join(folder, certificateName)
  await replaceFile(file, `${authority.certificate.toString('pem')}\n`, 0o644)
  return { file, ...authority }
}

async function readAuthority(file: string): Promise<Omit<Authority, 'file'> | undefined> {
  const pem = await readFile(file, 'utf8').catch(ignoreMissing)
  if (pem === undefined) return undefined
  try {
    const [pkcs8, der] = x509.PemConverter.decode(pem)
    if (!pkcs8 || !der) throw new Error('expected a private key and a certificate')
    const privateKey = await webcrypto.subtle.importKey('pkcs8', pkcs8, algorithm, false, ['sign'])
    return { certificate: new x509.X509Certificate(der), privateKey }
  } catch (cause) {
    throw new ListenError(
      'certificate_unusable',
      `The development authority in ${file} is damaged. Restore it, or remove it to have a new one made, which clients must trust anew.`,
      { cause },
    )
  }
}

/** The private key and the certificate of a new authority, as PEM. */
async function makeAuthority(now: () => number): Promise<string> {
  const keys = await generateKeys()
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: 'CN=Holdfast development authority',
    notBefore: new Date(now() - day),
    notAfter: new Date(now() + authorityLifetime),
    keys,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return `${await exportPem(keys.privateKey)}\n${certificate.toString('pem')}\n`
}

/** Nobody reads half a file, and a crash leaves none. */
async function replaceFile(file: string, text: string, mode: number): Promise<void> {
  const partial = `${file}-${randomBytes(6).toString('hex')}`
  await writeFile(partial, text, { mode, flag: 'wx' })
  await rename(partial, file)
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}

function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
}

/** RFC 5280 section 4.1.2.2: positive, and at most 20 octets. */
function serialNumber(): string {
  return `01${randomBytes(15).toString('hex')}`
}

async function exportPem(key: webcrypto.CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')
}
