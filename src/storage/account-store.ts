/** What an account may say of its person, beside the name: claims of OpenID Connect Core section 5.1. */
export const profileMembers = [
  'givenName',
  'familyName',
  'preferredUsername',
  'locale',
  'zoneinfo',
  'picture',
  'phone',
  'streetAddress',
  'locality',
  'region',
  'postalCode',
  'country',
] as const

export type Profile = Partial<Record<(typeof profileMembers)[number], string>>

export interface Account extends Profile {
  id: string
  email: string
  /** Another name to sign in with, in its one form. */
  username?: string
  name?: string
  /** Whether its person has opened a link that was mailed to it, or an operator has said so. */
  emailVerified?: true
  /** Whether an operator has said that the phone belongs to the person. */
  phoneVerified?: true
  groups?: readonly string[]
  /** What the installation knows of its people beside that, for custom claims. */
  attributes?: Readonly<Record<string, string>>
  /** Whether a code is asked for after the password. */
  hasCodeApp?: true
  disabled: boolean
  createdAt: Date
  /** When any of it was changed last. */
  updatedAt?: Date
}

/** What is to change of an account; null removes. */
export interface AccountChange {
  /** In its canonical form. It is unverified after the change, unless `emailVerified` says otherwise. */
  readonly email?: string
  readonly username?: string | null
  readonly name?: string | null
  readonly emailVerified?: boolean
  readonly phoneVerified?: boolean
  readonly profile?: Readonly<Partial<Record<keyof Profile, string | null>>>
  readonly groups?: readonly string[]
  readonly attributes?: Readonly<Record<string, string | null>>
}

/** A change that a person makes in a session. */
export interface OwnChange {
  readonly accountId: string
  readonly sessionUid: string | undefined
  readonly address: string | undefined
  readonly userAgent: string | undefined
}

export interface AccountRecord {
  account: Account
  passwordHash: string
}

/** What has ended with an account. */
export interface RemovedAccount {
  readonly id: string
  /** Sessions. */
  readonly ended: number
  /** Grants. */
  readonly revoked: number
}

/** Emails arrive normalised: a store compares them byte for byte. */
export interface AccountStore {
  findById(id: string): Promise<Account | undefined>
  findByEmail(email: string): Promise<AccountRecord | undefined>
  /** The email of the account that has a username, in its one form. */
  emailOfUsername(username: string): Promise<string | undefined>
  /** False when the email or username is taken: one `insert … on conflict do nothing`. */
  insert(account: Account, passwordHash: string): Promise<boolean>
  /**
   * Undefined when there is no such account. The previous address learns of another email, which
   * ends the links that were mailed to it.
   */
  change(
    id: string,
    change: AccountChange,
  ): Promise<Account | 'username taken' | 'email taken' | undefined>
  /** In the order they were created. */
  list(): Promise<Account[]>
  /** Ends every sign-in too. False when there is no such account. */
  setPasswordHash(id: string, passwordHash: string): Promise<boolean>
  /**
   * The person's own change: ends every other sign-in than the one that makes it. False when there
   * is no such account, or a disabled one.
   */
  changeOwnPassword(passwordHash: string, by: OwnChange): Promise<boolean>
  /**
   * Swaps one hash of a password for a stronger hash of the same password, only where the old one
   * is still there: a password set while its predecessor was signing in must not be undone.
   */
  replacePasswordHash(id: string, from: string, to: string): Promise<void>
  /** Ends every sign-in too, when disabling. False when there is no such account. */
  setDisabled(id: string, disabled: boolean): Promise<boolean>
  /**
   * Removes an account with its credentials, events and grants, and ends its sign-ins. Undefined when
   * there is no such account.
   */
  remove(id: string): Promise<RemovedAccount | undefined>
  /** Ends every sign-in of a person, in every browser; how many there were. */
  endSessions(id: string): Promise<number>
}
