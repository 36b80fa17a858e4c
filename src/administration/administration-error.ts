export type AdministrationErrorCode =
  | 'not_found'
  | 'invalid_request'
  | 'already_exists'
  | 'conflict'

/** What an administrator asked for cannot be done. The message is a sentence. */
export class AdministrationError extends Error {
  override name = 'AdministrationError'
  readonly code: AdministrationErrorCode

  constructor(code: AdministrationErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
