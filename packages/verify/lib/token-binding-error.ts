/** Why a Token Binding message, ID or header was refused. */
export type TokenBindingErrorCode =
  /** The TLS connection did not negotiate Token Binding, yet a message came. */
  | 'not_negotiated'
  /** A single-valued header field came twice. */
  | 'repeated_header'
  /** Not base64url as RFC 8473 section 2 wants it: no padding, no other characters. */
  | 'malformed_encoding'
  /** Not a TokenBindingMessage of RFC 8471 section 3. */
  | 'malformed_message'
  /** A key that is not of its declared kind, not canonical, or nobody's secret. */
  | 'malformed_key'
  | 'no_provided_binding'
  | 'repeated_provided_binding'
  | 'repeated_referred_binding'
  /** The provided binding uses other key parameters than TLS negotiated. */
  | 'key_parameters_not_negotiated'
  | 'invalid_signature'
  /** A forwarded Token Binding ID from a peer that must not forward one. */
  | 'untrusted_peer'
  /** A forwarded Token Binding ID that does not have the syntax of one. */
  | 'malformed_header'

/**
 * The peer's mistake in Token Binding. `code` is for programs; the message names what was
 * expected and never contains a key, an ID or a signature.
 */
export class TokenBindingError extends Error {
  override name = 'TokenBindingError'
  readonly code: TokenBindingErrorCode

  constructor(code: TokenBindingErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
