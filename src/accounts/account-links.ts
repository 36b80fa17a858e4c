/**
 * One-time links, in which a person sets a passkey or a password: for a new account, or for one
 * whose person can no longer sign in. Only a digest of the token is kept. Opening a link uses
 * nothing up; what sets the credential does.
 */
import { hash, randomBytes } from 'node:crypto'
import type {
  AccountLinkTable,
  FoundLink,
  LinkUse,
  ResetCredentials,
  ResetFactors,
} from '../storage/account-link-table.ts'
import type { AccountStore } from '../storage/account-store.ts'
import { accountNotFound } from './account-error.ts'
import { type CanonicalEmail, normalizeEmail } from './email.ts'
import { absentPasswordHash, defaultPasswordCost } from './password.ts'

/** How long links can be used, in hours: until someone new has time for it, or while they wait. */
export const linkLifetimeHours = { invitation: 72, reset: 24, forgotten: 1 } as const

export interface MadeLink {
  /** For the person alone: anyone who opens it can set how to sign in. */
  readonly link: string
  readonly expiresAt: Date
  /** Whether it is sent by mail. */
  readonly mailed: boolean
}

/** Sends a link to its person. */
export type MailLink = (
  kind: 'invitation' | 'reset',
  about: { readonly to: CanonicalEmail; readonly link: string; readonly expiresAt: Date },
  lifetimeS: number,
) => Promise<boolean>

export interface AccountLinks {
  /** @throws AccountError `account_not_found` */
  invite(email: string): Promise<MadeLink>
  /**
   * Makes a link, and takes the password, sessions and grants from the account, and what else is
   * asked for.
   *
   * @throws AccountError `account_not_found`
   */
  reset(email: string, also: ResetFactors): Promise<MadeLink & ResetCredentials>
  /**
   * Makes a link for someone who forgot how to sign in, to be mailed to that address and shown to
   * nobody else. Undefined where no account that can be used has it.
   */
  recover(
    email: CanonicalEmail,
  ): Promise<{ readonly link: string; readonly expiresAt: Date } | undefined>
  /** A link that can be used. */
  find(token: string): Promise<FoundLink | undefined>
  /** Uses a link up; false where it cannot be used. */
  setPassword(token: string, passwordHash: string, by: LinkUse): Promise<boolean>
}

const tokenBytes = 32

/** What is kept of a token. */
export const linkDigest = (token: string): Buffer => hash('sha256', token, 'buffer')

/**
 * @param address - of the page that links lead to; the token is appended.
 */
export function createAccountLinks({
  table,
  store,
  address,
  mail = async () => false,
}: {
  table: AccountLinkTable
  store: Pick<AccountStore, 'findByEmail'>
  address: string
  mail?: MailLink | undefined
}): AccountLinks {
  async function personOf(email: string) {
    const to = normalizeEmail(email)
    const found = await store.findByEmail(to)
    if (!found) throw accountNotFound(email)
    return { id: found.account.id, to }
  }

  const make = () => {
    const token = randomBytes(tokenBytes).toString('base64url')
    return { link: address + token, digest: linkDigest(token) }
  }

  const secondsOf = (kind: keyof typeof linkLifetimeHours) => linkLifetimeHours[kind] * 3600

  return {
    async invite(email) {
      const { link, digest } = make()
      const { id, to } = await personOf(email)
      const lifetimeS = secondsOf('invitation')
      const expiresAt = await table.make(id, digest, lifetimeS)
      if (!expiresAt) throw accountNotFound(email)
      const mailed = await mail('invitation', { to, link, expiresAt }, lifetimeS)
      return { link, expiresAt, mailed }
    },

    async reset(email, also) {
      const { link, digest } = make()
      const { id, to } = await personOf(email)
      const lifetimeS = secondsOf('reset')
      const done = await table.reset(id, {
        ...{ digest, ...also, lifetimeS },
        absent: absentPasswordHash(defaultPasswordCost),
      })
      if (!done) throw accountNotFound(email)
      const { expiresAt } = done
      return { link, ...done, mailed: await mail('reset', { to, link, expiresAt }, lifetimeS) }
    },

    async recover(email) {
      const { link, digest } = make()
      const expiresAt = await table.recover(email, digest, secondsOf('forgotten'))
      return expiresAt && { link, expiresAt }
    },

    find: (token) => table.find(linkDigest(token)),
    setPassword: (token, passwordHash, by) =>
      table.setPassword(linkDigest(token), passwordHash, by),
  }
}
