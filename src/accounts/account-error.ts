export type AccountErrorCode =
  | 'account_not_found'
  | 'email_taken'
  | 'invalid_email'
  | 'invalid_name'
  | 'invalid_password_hash'
  | 'invalid_profile'
  | 'invalid_username'
  | 'password_guessable'
  | 'password_too_long'
  | 'password_too_short'
  | 'username_taken'

export class AccountError extends Error {
  override name = 'AccountError'
  code: AccountErrorCode

  constructor(code: AccountErrorCode, message: string) {
    super(message)
    this.code = code
  }
}

export function accountNotFound(email: string): AccountError {
  return new AccountError('account_not_found', `There is no account for ${email}`)
}
