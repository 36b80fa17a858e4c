export type TokenBindingTlsErrorCode =
  /** There is no native part for this machine. */
  | 'not_built'
  /** There is one, and it cannot be loaded or used. */
  | 'not_loadable'
  /** What `equip` was given made no TLS server. */
  | 'nothing_equipped'
  /** The server negotiated in a way that RFC 8472 section 4 tells a client to refuse. */
  | 'unsafe_negotiation'
  /** A connection ended before its handshake did. */
  | 'connection_closed'
  /** The agent could not add its header field to a request. */
  | 'header_not_placed'

export class TokenBindingTlsError extends Error {
  override name = 'TokenBindingTlsError'
  readonly code: TokenBindingTlsErrorCode

  constructor(code: TokenBindingTlsErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
