/** Certificates as attackers, broken proxies and honest ones send them. As data. */

import {
  type CertificateHeaderFormat,
  type ClientCertificateErrorCode,
  certificateHeaderFormats,
} from '../../packages/verify/client-certificate.ts'
import type { VerifyErrorCode } from '../../packages/verify/errors.ts'
import type { UntrustedReason } from '../../src/certificates/client-authorities.ts'
import * as x509 from '../../src/certificates/x509.ts'
import {
  createAuthority,
  daysFromNow,
  selfSigned,
  type TestCertificate,
} from '../support/certificates.ts'

/** What a request shows to a resource server behind a proxy, with a token of the owner's. */
export interface HeaderAttack {
  readonly format: CertificateHeaderFormat
  readonly fromProxy: boolean
  readonly headers: readonly string[]
  /** What the token is bound to. */
  readonly cnf: Record<string, string>
}

/** What a client shows to the authorization server to be authenticated. */
export interface ChainAttack {
  readonly certificate: TestCertificate
  readonly chain: readonly TestCertificate[]
}

export type CertificateRow = Readonly<{ case: string }> &
  (
    | Readonly<{
        expected: 'accepted' | VerifyErrorCode | ClientCertificateErrorCode
        attack: HeaderAttack
      }>
    | Readonly<{ expected: 'accepted' | UntrustedReason; presented: ChainAttack }>
  )

export const authority = await createAuthority()
const namesake = await createAuthority()
const owner = await authority.issue()
const thief = await authority.issue({ subject: 'CN=thief' })
export const revoked = await authority.issue()

const written: Record<CertificateHeaderFormat, (who: TestCertificate) => string> = {
  rfc9440: ({ der }) => `:${der.toString('base64')}:`,
  nginx: ({ cert }) => encodeURIComponent(cert),
  haproxy: ({ der }) => der.toString('base64'),
  envoy: ({ cert }) => `Hash=00;Cert="${encodeURIComponent(cert)}"`,
  'aws-alb': ({ cert }) => encodeURIComponent(cert).replaceAll('%2F', '/'),
}

const field: Record<CertificateHeaderFormat, string> = {
  rfc9440: 'Client-Cert',
  nginx: 'X-SSL-Cert',
  haproxy: 'X-SSL-Client-DER',
  envoy: 'X-Forwarded-Client-Cert',
  'aws-alb': 'X-Amzn-Mtls-Clientcert-Leaf',
}

const ownCnf = { 'x5t#S256': owner.thumbprint }
const jkt = 'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs'

const headerRows = certificateHeaderFormats.flatMap((format): CertificateRow[] => {
  const value = written[format]
  const name = field[format]
  const row = (
    title: string,
    expected: 'accepted' | VerifyErrorCode | ClientCertificateErrorCode,
    headers: readonly string[],
    { fromProxy = true, cnf = ownCnf as Record<string, string> } = {},
  ): CertificateRow => ({
    case: `${format}: ${title}`,
    expected,
    attack: { format, fromProxy, headers, cnf },
  })
  return [
    row("the owner's certificate", 'accepted', [name, value(owner)]),
    row('no certificate', 'certificate_missing', []),
    row('an empty header', 'certificate_missing', [name, '']),
    row("a thief's certificate", 'certificate_mismatch', [name, value(thief)]),
    row('spoofed by a stranger', 'untrusted_peer', [name, value(owner)], { fromProxy: false }),
    row('two headers', 'repeated_header', [name, value(thief), name, value(owner)]),
    row('two headers, other case', 'repeated_header', [
      name,
      value(thief),
      name.toLowerCase(),
      value(owner),
    ]),
    row('a list', 'repeated_header', [name, `${value(thief)}, ${value(owner)}`]),
    row('too large', 'header_too_large', [name, 'A'.repeat(20_000)]),
    row('a thumbprint for a certificate', 'malformed_header', [name, owner.thumbprint]),
    row('the private key', 'malformed_header', [name, encodeURIComponent(owner.key)]),
    row('cut off', 'malformed_header', [name, value(owner).slice(0, -40)]),
    row(
      'jkt beside x5t#S256, only the certificate proven',
      'dpop_token_leaked',
      [name, value(owner)],
      { cnf: { ...ownCnf, jkt } },
    ),
    row('token of a DPoP client', 'dpop_token_leaked', [name, value(owner)], { cnf: { jkt } }),
  ]
})

async function chainRows(): Promise<CertificateRow[]> {
  const intermediate = await authority.intermediate({ pathLength: 0 })
  const below = await intermediate.issue()
  const deeper = await intermediate.intermediate({ subject: 'CN=Deeper' })
  const row = (
    title: string,
    expected: 'accepted' | UntrustedReason,
    certificate: TestCertificate,
    ...chain: TestCertificate[]
  ): CertificateRow => ({ case: title, expected, presented: { certificate, chain } })
  return [
    row('chain: of the authority', 'accepted', owner),
    // First: an intermediate that was seen is known.
    row('chain: without its intermediate', 'no_path_to_authority', below),
    row('chain: by an intermediate', 'accepted', below, intermediate),
    row('chain: of another authority', 'no_path_to_authority', await namesake.issue(), namesake),
    row('chain: self-signed', 'no_path_to_authority', await selfSigned()),
    row('chain: issued by a client', 'no_path_to_authority', await namesake.issue(), owner),
    row(
      'chain: longer than its authority allows',
      'no_path_to_authority',
      await deeper.issue(),
      deeper,
      intermediate,
    ),
    row('chain: revoked', 'revoked', revoked),
    row(
      'chain: expired',
      'outside_validity',
      await authority.issue({ notAfter: daysFromNow(-0.5) }),
    ),
    row(
      'chain: not valid yet',
      'outside_validity',
      await authority.issue({ notBefore: daysFromNow(1) }),
    ),
    row(
      'chain: for servers',
      'not_for_clients',
      await authority.issue({ usage: [x509.ExtendedKeyUsage.serverAuth] }),
    ),
  ]
}

export const certificateTable: readonly CertificateRow[] = [...headerRows, ...(await chainRows())]
