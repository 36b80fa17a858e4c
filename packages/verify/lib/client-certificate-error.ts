/** Why the certificate in a header was refused. */
export type ClientCertificateErrorCode =
  /** A certificate from a peer that must not forward one. */
  | 'untrusted_peer'
  /** A single-valued header field came twice, or as a list. */
  | 'repeated_header'
  /** Longer than any certificate, or chain, that is used for TLS. */
  | 'header_too_large'
  /** Not what the configured format looks like, or no X.509 certificate in it. */
  | 'malformed_header'

/**
 * The peer's mistake in forwarding a certificate. `code` is for programs; the message names what
 * was expected and never contains a certificate.
 */
export class ClientCertificateError extends Error {
  override name = 'ClientCertificateError'
  readonly code: ClientCertificateErrorCode

  constructor(code: ClientCertificateErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
