import { type CertificateHeaderFormat, certificateHeaderFormats } from '@holdfast/verify'
import { z } from 'zod'

import { trustedPeers } from '../net/trusted-peers.ts'

export interface AuthorityFiles {
  readonly authorityFile: string
  readonly revocationFile: string | undefined
}

/** How TLS client certificates (RFC 8705) reach this server, and which of them it trusts. */
export interface MtlsConfig {
  /** A port of this process that asks its clients for a certificate. */
  readonly port: number | undefined
  /** The public origin of that port, or of the proxy that asks: for `mtls_endpoint_aliases`. */
  readonly origin: string | undefined
  /** The header by which trusted proxies pass certificates on. */
  readonly forwarded: ForwardedCertificates | undefined
  /** PEM: the authorities of `tls_client_auth`, and their revocation lists. */
  readonly authorityFile: string | undefined
  readonly revocationFile: string | undefined
}

export interface ForwardedCertificates {
  readonly format: CertificateHeaderFormat
  readonly header: string | undefined
}

const portSchema = z
  .string()
  .regex(/^\d{1,5}$/, 'must be a number from 1 to 65535')
  .transform(Number)
  .refine((port) => port >= 1 && port <= 65535, 'must be a number from 1 to 65535')

export const mtlsVariables = {
  HOLDFAST_TRUSTED_PROXIES: z
    .string()
    .transform((text) => text.split(',').map((network) => network.trim()))
    .refine(areNetworks, 'must be addresses and networks such as 10.0.0.0/8,192.0.2.7')
    .optional(),
  HOLDFAST_CLIENT_CERT_FORMAT: z
    .enum(certificateHeaderFormats, `must be one of ${certificateHeaderFormats.join(', ')}`)
    .optional(),
  HOLDFAST_CLIENT_CERT_HEADER: z
    .string()
    .regex(/^[A-Za-z0-9-]+$/, 'must be the name of a header such as X-SSL-Cert')
    .optional(),
  HOLDFAST_MTLS_PORT: portSchema.optional(),
  HOLDFAST_MTLS_ORIGIN: z
    .string()
    .refine(isHttpsOrigin, 'must be an https origin such as https://mtls.id.example.com')
    .optional(),
  HOLDFAST_CLIENT_CA_FILE: z.string().optional(),
  HOLDFAST_CLIENT_CRL_FILE: z.string().optional(),
}

type Values = z.output<z.ZodObject<typeof mtlsVariables>>

export function mtlsConfig(values: Values, issuer: string): MtlsConfig {
  const { HOLDFAST_CLIENT_CERT_FORMAT: format, HOLDFAST_MTLS_PORT: port } = values
  return {
    port,
    origin: values.HOLDFAST_MTLS_ORIGIN ?? (port ? originAt(issuer, port) : undefined),
    forwarded: format && { format, header: values.HOLDFAST_CLIENT_CERT_HEADER },
    authorityFile: values.HOLDFAST_CLIENT_CA_FILE,
    revocationFile: values.HOLDFAST_CLIENT_CRL_FILE,
  }
}

/** The files of authorities, as one. */
export function authorityFiles({
  authorityFile,
  revocationFile,
}: MtlsConfig): AuthorityFiles | undefined {
  return authorityFile === undefined ? undefined : { authorityFile, revocationFile }
}

/** What is wrong with variables that are each right. */
export function mtlsContradictions(given: Readonly<Record<string, string | undefined>>): string[] {
  const problems: string[] = []
  const {
    HOLDFAST_TRUSTED_PROXIES: proxies,
    HOLDFAST_CLIENT_CERT_FORMAT: format,
    HOLDFAST_CLIENT_CERT_HEADER: header,
    HOLDFAST_MTLS_PORT: port,
    HOLDFAST_MTLS_ORIGIN: origin,
    HOLDFAST_CLIENT_CA_FILE: authorities,
    HOLDFAST_CLIENT_CRL_FILE: revocations,
  } = given
  if (format && !proxies) {
    problems.push(
      'HOLDFAST_TRUSTED_PROXIES is missing: HOLDFAST_CLIENT_CERT_FORMAT is about its headers.',
    )
  }
  if (header && (!format || ['rfc9440', 'envoy'].includes(format))) {
    problems.push(
      'HOLDFAST_CLIENT_CERT_HEADER is for HOLDFAST_CLIENT_CERT_FORMAT nginx, haproxy and aws-alb.',
    )
  }
  if (port && given.HOLDFAST_TLS === 'off') {
    problems.push(
      'HOLDFAST_MTLS_PORT is set while HOLDFAST_TLS is off: behind a proxy, certificates come by ' +
        'HOLDFAST_CLIENT_CERT_FORMAT.',
    )
  }
  if (port && Number(port) === Number(given.HOLDFAST_PORT ?? defaultPort)) {
    problems.push(
      'HOLDFAST_MTLS_PORT must be another port than HOLDFAST_PORT: browsers that are asked for a ' +
        'certificate ask people.',
    )
  }
  if (origin && !port && !format) {
    problems.push(
      'HOLDFAST_MTLS_ORIGIN is set, and no certificate could arrive there: set ' +
        'HOLDFAST_MTLS_PORT, or HOLDFAST_CLIENT_CERT_FORMAT behind a proxy.',
    )
  }
  if (origin && origin === URL.parse(given.HOLDFAST_ISSUER ?? '')?.origin) {
    problems.push('HOLDFAST_MTLS_ORIGIN must be another origin than HOLDFAST_ISSUER.')
  }
  if (authorities && !port && !format) {
    problems.push(
      'HOLDFAST_CLIENT_CA_FILE is set, and no certificate could arrive: set HOLDFAST_MTLS_PORT, ' +
        'or HOLDFAST_CLIENT_CERT_FORMAT behind a proxy.',
    )
  }
  if (revocations && !authorities) {
    problems.push(
      'HOLDFAST_CLIENT_CA_FILE is missing: HOLDFAST_CLIENT_CRL_FILE revokes certificates of it.',
    )
  }
  return problems
}

export const defaultPort = 9443

function originAt(issuer: string, port: number): string {
  const url = new URL(issuer)
  url.port = String(port)
  return url.origin
}

function isHttpsOrigin(text: string): boolean {
  const url = URL.parse(text)
  return url?.protocol === 'https:' && url.origin === text
}

function areNetworks(networks: readonly string[]): boolean {
  try {
    trustedPeers(networks)
    return true
  } catch {
    return false
  }
}
