import type { X509Certificate } from 'node:crypto'
import { decodeBase64url, isStrongKey } from '@holdfast/verify/authorization-server'
import type { Binding, ConnectionProofs } from './binding.ts'

/** RFC 8705: the certificate of the client's TLS connection. */
export const mtlsBinding: Binding = {
  method: 'mtls',
  flags: ['tls_client_certificate_bound_access_tokens'],
  confirmation: 'x5t#S256',
  hasProof: ({ connection, now }) => currentCertificate(connection, now * 1000) !== undefined,
  missing:
    'the tokens of this client are bound by mutual TLS: a client certificate that has not ' +
    'expired is required, at an endpoint of mtls_endpoint_aliases',
  presented: ({ certificate }) => certificate?.thumbprint,
  // The present certificate vouches for the next; naming one without its key helps nobody.
  readSuccessor: (thumbprint) =>
    decodeBase64url(thumbprint)?.length === 32
      ? { key: thumbprint }
      : { problem: 'successor must be the x5t#S256 of a certificate' },
}

/**
 * The client's certificate, unless its time has not come or is over, or others can sign for its key:
 * nobody else looks at a self-signed one.
 *
 * @param now milliseconds since the epoch.
 */
export function currentCertificate(
  { certificate: proven }: ConnectionProofs,
  now: number,
): X509Certificate | undefined {
  if (!proven) return undefined
  const { certificate } = proven
  const { isStrong, from, until } = factsOf(certificate)
  return isStrong && from <= now && now <= until ? certificate : undefined
}

interface CertificateFacts {
  readonly isStrong: boolean
  /** Milliseconds since the epoch. */
  readonly from: number
  readonly until: number
}

/** Node reads them from the certificate anew each time. */
const known = new WeakMap<X509Certificate, CertificateFacts>()

function factsOf(certificate: X509Certificate): CertificateFacts {
  const before = known.get(certificate)
  if (before) return before
  const facts = {
    isStrong: isStrongKey(certificate.publicKey),
    from: certificate.validFromDate.getTime(),
    until: certificate.validToDate.getTime(),
  }
  known.set(certificate, facts)
  return facts
}
