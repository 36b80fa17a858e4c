export type ListenErrorCode = 'address_in_use' | 'address_unusable' | 'certificate_unusable'

/** The server cannot listen as configured. The message is a sentence for the operator. */
export class ListenError extends Error {
  override name = 'ListenError'
  readonly code: ListenErrorCode

  constructor(code: ListenErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
