import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { ClientCertificate } from '@holdfast/verify'
import { isStrongKey } from '@holdfast/verify/authorization-server'
import type { AuthorityFiles } from '../config/mtls-config.ts'
import { CertificateFileError } from './certificate-file-error.ts'
import { isCurrent, isIssuedBy, isStrong, mayIssue, parseUnderstood } from './path-rules.ts'
import { type RevocationLists, readRevocationLists } from './revocation-lists.ts'
import * as x509 from './x509.ts'

/** Why a certificate does not authenticate anyone. */
export type UntrustedReason =
  | 'outside_validity'
  | 'not_for_clients'
  | 'weak_algorithm'
  | 'no_path_to_authority'
  | 'revoked'
  | 'revocation_unknown'

export interface ClientAuthorities {
  /**
   * Why a client's certificate is not trusted; undefined when it is.
   *
   * @param now milliseconds since the epoch.
   */
  check(certificate: ClientCertificate, now: number): UntrustedReason | undefined
  /** When the first of the revocation lists ends, in milliseconds since the epoch. */
  readonly nextUpdate: number | undefined
}

/**
 * Intermediates by which a path was found. TLS keeps the certificate of a client over a resumption,
 * and forgets what the client sent beside it: without these, a client that is good on its first
 * connection would be refused on its second. Only what an authority has issued gets in, and each is
 * checked whenever it is used.
 */
export type KnownIntermediates = Map<string, X509Certificate>

/** An authority has few; the oldest make room. */
const mostIntermediates = 32

/**
 * The certificate authorities whose clients are known, from PEM files. A path is checked by the
 * rules of RFC 5280 section 6.1 less what private authorities have no use for: certificates with
 * name or policy constraints, or any other critical extension not known here, lead nowhere. Nor do
 * signatures by MD5 or SHA-1 and RSA keys under 2048 bits, whichever certificate has one.
 *
 * @param known is added to, and outlives what is loaded here.
 * @throws {@link CertificateFileError}
 */
export async function loadClientAuthorities(
  { authorityFile, revocationFile }: AuthorityFiles,
  known: KnownIntermediates = new Map(),
): Promise<ClientAuthorities> {
  const authorities = parseAuthorities(await read(authorityFile), authorityFile)
  const revocations =
    revocationFile === undefined
      ? undefined
      : await readRevocationLists(await read(revocationFile), authorities, revocationFile)
  return {
    nextUpdate: revocations?.nextUpdate,
    check({ certificate, chain }, now) {
      if (!isCurrent(certificate, now)) return 'outside_validity'
      if (!mayBeClient(certificate)) return 'not_for_clients'
      if (!isStrong(certificate)) return 'weak_algorithm'
      return checkPath(certificate, { authorities, chain, known, revocations, now })
    },
  }
}

interface Path {
  readonly authorities: readonly X509Certificate[]
  /** What the client sent beside its certificate: a help in finding a path, and no more. */
  readonly chain: readonly X509Certificate[]
  readonly known: KnownIntermediates
  readonly revocations: RevocationLists | undefined
  readonly now: number
}

/**
 * Looks for a path level by level, and at each certificate of the chain once: of many paths the
 * shortest is the one that path lengths allow first, and certificates that all issued each other
 * cost no more than others.
 */
function checkPath(
  certificate: X509Certificate,
  { authorities, chain, known, revocations, now }: Path,
): UntrustedReason | undefined {
  let reason: UntrustedReason = 'no_path_to_authority'
  let subjects = new Set([certificate])
  const given = new Set(chain.map(({ fingerprint256 }) => fingerprint256))
  const others = [...known.values()].filter((each) => !given.has(each.fingerprint256))
  let unused = [...chain, ...others]
  const issued = new Map<X509Certificate, X509Certificate>()
  for (let below = 0; subjects.size > 0; below += 1) {
    const issuers = new Set<X509Certificate>()
    for (const subject of subjects) {
      for (const issuer of [...authorities, ...unused]) {
        // By name first: most are of someone else, and the other questions take longer.
        if (!isCurrent(issuer, now) || !isIssuedBy(subject, issuer)) continue
        if (!mayIssueForClients(issuer, below)) continue
        const isAuthority = authorities.includes(issuer)
        // How an authority has signed itself is nobody's concern; its key signs for others.
        if (isAuthority ? !isStrongKey(issuer.publicKey) : !isStrong(issuer)) {
          reason = 'weak_algorithm'
          continue
        }
        const status = revocations?.statusOf(subject, issuer, now) ?? 'good'
        if (status === 'good' && isAuthority) {
          remember(known, subject, issued)
          return undefined
        }
        if (status === 'good') {
          issuers.add(issuer)
          issued.set(issuer, subject)
        } else reason = status === 'revoked' ? 'revoked' : 'revocation_unknown'
      }
    }
    unused = unused.filter((each) => !issuers.has(each))
    subjects = issuers
  }
  return reason
}

/** Keeps what is between an authority and a client: all that have issued something on the way. */
function remember(
  known: KnownIntermediates,
  top: X509Certificate,
  issued: ReadonlyMap<X509Certificate, X509Certificate>,
): void {
  let issuer: X509Certificate | undefined = top
  for (; issuer && issued.has(issuer); issuer = issued.get(issuer)) {
    known.delete(issuer.fingerprint256)
    known.set(issuer.fingerprint256, issuer)
  }
  for (const oldest of known.keys()) {
    if (known.size <= mostIntermediates) return
    known.delete(oldest)
  }
}

/** RFC 5280 section 4.2.1.12. */
function allowsClients(parsed: x509.X509Certificate): boolean {
  const usages = parsed.getExtension(x509.ExtendedKeyUsageExtension)?.usages
  return (
    usages === undefined ||
    usages.includes(x509.ExtendedKeyUsage.clientAuth) ||
    usages.includes('2.5.29.37.0')
  )
}

function mayBeClient(certificate: X509Certificate): boolean {
  const parsed = parseUnderstood(certificate)
  return parsed !== undefined && allowsClients(parsed)
}

function mayIssueForClients(certificate: X509Certificate, below: number): boolean {
  const parsed = parseUnderstood(certificate)
  return parsed !== undefined && allowsClients(parsed) && mayIssue(certificate, below)
}

function parseAuthorities(pem: string, file: string): X509Certificate[] {
  try {
    const found = x509.PemConverter.decode(pem).map((der) => new X509Certificate(Buffer.from(der)))
    if (found.length > 0 && found.every(({ ca }) => ca)) return found
  } catch (cause) {
    throw new CertificateFileError(`${file} does not hold certificates as PEM.`, { cause })
  }
  throw new CertificateFileError(`${file} must hold certificates of authorities, and only those.`)
}

async function read(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new CertificateFileError(`${file} cannot be read (${cause.code}).`, { cause })
  })
}
