import type { X509Certificate } from 'node:crypto'
import { CertificateFileError } from './certificate-file-error.ts'
import * as x509 from './x509.ts'

/** What the lists say of a certificate: `unknown` when no current list of its issuer is there. */
export type RevocationStatus = 'good' | 'revoked' | 'unknown'

export interface RevocationLists {
  statusOf(certificate: X509Certificate, issuer: X509Certificate, now: number): RevocationStatus
  /** When the first of the lists ends, in milliseconds since the epoch. */
  readonly nextUpdate: number
}

type List = Readonly<{ serials: ReadonlySet<bigint>; thisUpdate: number; nextUpdate: number }>

/**
 * Reads revocation lists (RFC 5280 section 5), each signed by one of the authorities. Delta and
 * partial lists are refused: a certificate that is missing from one may be revoked all the same.
 *
 * @throws {@link CertificateFileError}
 */
export async function readRevocationLists(
  pem: string,
  authorities: readonly X509Certificate[],
  file: string,
): Promise<RevocationLists> {
  const lists = new Map<string, List>()
  for (const list of parse(pem, file)) {
    // Section 5.2: a critical extension that is not understood forbids the use of the list.
    if (list.extensions.some(({ critical }) => critical)) {
      throw new CertificateFileError(`${file} holds a delta or partial revocation list.`)
    }
    const issuer = await findSigner(list, authorities)
    if (!issuer) {
      throw new CertificateFileError(
        `${file} holds a revocation list of ${list.issuer}, which is not in HOLDFAST_CLIENT_CA_FILE.`,
      )
    }
    lists.set(issuer.fingerprint256, {
      serials: new Set(list.entries.map(({ serialNumber }) => BigInt(`0x${serialNumber}`))),
      thisUpdate: list.thisUpdate.getTime(),
      // Without an end it would be good for ever, and section 5.1.2.5 wants one.
      nextUpdate: list.nextUpdate?.getTime() ?? 0,
    })
  }
  return {
    nextUpdate: Math.min(...[...lists.values()].map(({ nextUpdate }) => nextUpdate)),
    statusOf(certificate, issuer, now) {
      const list = lists.get(issuer.fingerprint256)
      if (!list || now < list.thisUpdate || now >= list.nextUpdate) return 'unknown'
      return list.serials.has(BigInt(`0x${certificate.serialNumber}`)) ? 'revoked' : 'good'
    },
  }
}

function parse(pem: string, file: string): x509.X509Crl[] {
  try {
    const lists = x509.PemConverter.decode(pem).map((der) => new x509.X509Crl(der))
    if (lists.length > 0) return lists
  } catch (cause) {
    throw new CertificateFileError(`${file} does not hold revocation lists as PEM.`, { cause })
  }
  throw new CertificateFileError(`${file} holds no revocation list.`)
}

async function findSigner(list: x509.X509Crl, authorities: readonly X509Certificate[]) {
  for (const authority of authorities) {
    const { publicKey, subject } = new x509.X509Certificate(authority.raw)
    if (subject === list.issuer && (await list.verify({ publicKey }))) return authority
  }
  return undefined
}
