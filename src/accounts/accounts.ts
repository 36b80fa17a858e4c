import { randomUUID as nodeRandomUUID } from 'node:crypto'
import type {
  Account,
  AccountChange,
  AccountRecord,
  AccountStore,
  Profile,
  RemovedAccount,
} from '../storage/account-store.ts'
import { AccountError, accountNotFound } from './account-error.ts'
import type { BoundedQueue } from './bounded-queue.ts'
import { type CanonicalEmail, normalizeEmail } from './email.ts'
import { isGuessable } from './guessable.ts'
import {
  absentPasswordHash,
  checkPasswordLength,
  decoyHash,
  defaultPasswordCost,
  hashingOnSharedThreads,
  isOverlong,
  isPasswordSet,
  needsRehash,
  type PasswordCost,
  type PasswordHashing,
} from './password.ts'
import { checkedChange } from './profile.ts'
import type { CanonicalUsername } from './username.ts'

export interface NewAccount extends Profile {
  email: string
  username?: string
  name?: string
  emailVerified?: true
  phoneVerified?: true
  groups?: readonly string[]
  attributes?: Readonly<Record<string, string>>
  /** Without one the account has none until its person sets one. */
  password?: string
}

/**
 * An account that nobody has so far: what is said of it is checked and brought into one form.
 *
 * @throws {@link AccountError} `invalid_email`, `invalid_username`, `invalid_name`, `invalid_profile`
 */
export function checkedAccount(
  { email, username, name, groups, attributes, ...others }: Omit<NewAccount, 'password'>,
  { id, createdAt }: Pick<Account, 'id' | 'createdAt'>,
): Account {
  const { emailVerified, phoneVerified, ...given } = others
  const { profile, ...checked } = checkedChange({
    ...(username !== undefined && { username }),
    ...(name !== undefined && { name }),
    ...(groups?.length && { groups }),
    ...(attributes && { attributes }),
    profile: given,
  })
  return {
    id,
    email: normalizeEmail(email),
    ...checked,
    ...profile,
    ...(emailVerified && { emailVerified }),
    ...(phoneVerified && { phoneVerified }),
    disabled: false,
    createdAt,
  }
}

const emailTaken = (email: string) =>
  new AccountError('email_taken', `An account for ${email} exists already`)

const usernameTaken = (username: string) =>
  new AccountError('username_taken', `The username ${username} is that of another account`)

export interface Accounts {
  /**
   * Checks a password. The answer is the same for an unknown email, a disabled account
   * and a wrong password; `of` is for the audit trail and for the owner of the account.
   *
   * @param found what the store has by that email, where it was asked before.
   * @throws {@link QueueFullError} when too many passwords are being checked.
   */
  authenticate(
    email: CanonicalEmail | CanonicalUsername | undefined,
    password: string,
    found?: { readonly record: AccountRecord | undefined },
  ): Promise<Authentication>
  /** The name under which attempts to sign in count: one for all names of an account. */
  nameOf(username: CanonicalUsername): Promise<CanonicalEmail | CanonicalUsername>
  /** Whether {@link authenticate} would refuse at once to check a password. */
  isBusy(): boolean
  /** Undefined for a disabled account too. */
  findActive(id: string): Promise<Account | undefined>
  /** @throws {@link AccountError} `account_not_found` */
  find(email: string): Promise<Account>
  add(account: NewAccount): Promise<Account>
  /**
   * @throws {@link AccountError} `account_not_found`, `email_taken`, `username_taken`,
   * `invalid_email`, `invalid_username`, `invalid_name`, `invalid_profile`
   */
  change(email: string, change: AccountChange): Promise<Account>
  list(): Promise<Account[]>
  disable(email: string): Promise<void>
  enable(email: string): Promise<void>
  /** Removes an account and everything of it, for ever; how many sign-ins and grants ended. */
  remove(email: string): Promise<RemovedAccount>
  setPassword(email: string, password: string): Promise<void>
  /**
   * Checks a new password for a person, and hashes it in turn with those that are checked.
   *
   * @throws {@link AccountError} `password_too_short`, `password_too_long`, `password_guessable`
   * @throws {@link QueueFullError} when too many passwords are being checked.
   */
  hashNewPassword(password: string, about: Pick<Account, 'email' | 'name'>): Promise<string>
  /** Whether the person has set one. */
  hasPassword(account: Pick<Account, 'email'>): Promise<boolean>
  /** Ends every sign-in of a person; how many there were. */
  signOut(email: string): Promise<number>
}

export type Authentication =
  | { readonly account: Account }
  | {
      readonly account: undefined
      /** The id of the account that has this email, if there is one. */
      readonly of: string | undefined
    }

export interface AccountsOptions {
  store: AccountStore
  cost?: PasswordCost | undefined
  /** Where passwords are hashed and checked. */
  hashing?: PasswordHashing | undefined
  /** Waits for a turn to check a password; by default there is always one. */
  queue?: BoundedQueue
  randomUUID?: () => string
  now?: () => number
}

export function createAccounts({
  store,
  cost = defaultPasswordCost,
  hashing = hashingOnSharedThreads,
  queue = { run: (work) => work(), isFull: () => false },
  randomUUID = nodeRandomUUID,
  now = Date.now,
}: AccountsOptions): Accounts {
  const decoy = decoyHash(cost)

  async function existing(email: string): Promise<Account> {
    const found = await store.findByEmail(normalizeEmail(email))
    if (!found) throw accountNotFound(email)
    return found.account
  }

  async function setDisabled(email: string, disabled: boolean) {
    const { id } = await existing(email)
    if (!(await store.setDisabled(id, disabled))) throw accountNotFound(email)
  }

  async function hashNewPassword(
    password: string,
    { email, name = '' }: Pick<Account, 'email' | 'name'>,
  ): Promise<string> {
    checkPasswordLength(password)
    if (await isGuessable(password, [email, ...email.split('@'), name])) {
      throw new AccountError(
        'password_guessable',
        'Expected a password that is not common, and not made of the name or email of the account',
      )
    }
    return queue.run(() => hashing.hash(password, cost))
  }

  return {
    async authenticate(email, password, known) {
      const find = () => (email === undefined ? undefined : store.findByEmail(email))
      const found = known ? known.record : await find()
      const refused = { account: undefined, of: found?.account.id }
      if (isOverlong(password)) return refused
      return queue.run(async () => {
        // The work is the same for every email: the time taken does not tell which ones exist.
        const correct = await hashing.verify(found?.passwordHash ?? decoy, password)
        if (!found || !correct || found.account.disabled) return refused
        if (needsRehash(found.passwordHash, cost)) {
          const rehashed = await hashing.hash(password, cost)
          await store.replacePasswordHash(found.account.id, found.passwordHash, rehashed)
        }
        return { account: found.account }
      })
    },

    nameOf: async (username) =>
      ((await store.emailOfUsername(username)) as CanonicalEmail | undefined) ?? username,

    isBusy: () => queue.isFull(),

    async findActive(id) {
      const account = await store.findById(id)
      return account?.disabled ? undefined : account
    },

    find: existing,

    async add({ password, ...about }) {
      const account = checkedAccount(about, { id: randomUUID(), createdAt: new Date(now()) })
      const passwordHash =
        password === undefined ? absentPasswordHash(cost) : await hashNewPassword(password, account)
      if (!(await store.insert(account, passwordHash))) {
        const isThere = await store.findByEmail(account.email)
        if (!isThere && account.username) throw usernameTaken(account.username)
        throw emailTaken(account.email)
      }
      return account
    },

    async change(email, change) {
      const { id } = await existing(email)
      // What is known of a phone is of that number.
      const ofPhone = change.profile?.phone === undefined ? {} : { phoneVerified: false }
      const changed = await store.change(id, { ...ofPhone, ...checkedChange(change) })
      if (!changed) throw accountNotFound(email)
      if (changed === 'username taken') throw usernameTaken(change.username ?? '')
      if (changed === 'email taken') throw emailTaken(change.email ?? '')
      return changed
    },

    list: () => store.list(),
    disable: (email) => setDisabled(email, true),
    enable: (email) => setDisabled(email, false),

    async remove(email) {
      const removed = await store.remove((await existing(email)).id)
      if (!removed) throw accountNotFound(email)
      return removed
    },

    signOut: async (email) => store.endSessions((await existing(email)).id),

    async setPassword(email, password) {
      const account = await existing(email)
      const passwordHash = await hashNewPassword(password, account)
      if (!(await store.setPasswordHash(account.id, passwordHash))) throw accountNotFound(email)
    },

    hashNewPassword,

    async hasPassword({ email }) {
      const found = await store.findByEmail(email)
      return found !== undefined && isPasswordSet(found.passwordHash)
    },
  }
}
