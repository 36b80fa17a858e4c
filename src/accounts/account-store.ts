export interface Account {
  id: string
  email: string
  name?: string
  disabled: boolean
  createdAt: Date
}

export interface AccountRecord {
  account: Account
  passwordHash: string
}

/** Emails arrive normalised: a store compares them byte for byte. */
export interface AccountStore {
  findById(id: string): Promise<Account | undefined>
  findByEmail(email: string): Promise<AccountRecord | undefined>
  /** False when the email is taken: one `insert … on conflict (email) do nothing`. */
  insert(account: Account, passwordHash: string): Promise<boolean>
  /** In the order they were created. */
  list(): Promise<Account[]>
  /** False when there is no such account. */
  setPasswordHash(id: string, passwordHash: string): Promise<boolean>
  /**
   * Swaps one hash of a password for a stronger hash of the same password, only where the old one
   * is still there: a password set while its predecessor was signing in must not be undone.
   */
  replacePasswordHash(id: string, from: string, to: string): Promise<void>
  /** False when there is no such account. */
  setDisabled(id: string, disabled: boolean): Promise<boolean>
}
