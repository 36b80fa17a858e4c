/**
 * Changes of an email by its person. A one-time link goes to the new address, and anyone who reads
 * mail there confirms the change by it: that is what makes an address verified. The link changes
 * nothing else, and signs nobody in.
 */
import { randomBytes } from 'node:crypto'
import type { LinkUse } from '../storage/account-link-table.ts'
import type { OwnChange } from '../storage/account-store.ts'
import type { EmailChangeTable, OpenEmailChange } from '../storage/email-change-table.ts'
import { linkDigest } from './account-links.ts'
import type { CanonicalEmail } from './email.ts'

/** How long a change can be confirmed, in hours: while its person waits for the mail. */
export const emailChangeLifetimeHours = 1

/** Sends the link to the new address; false where too much waits. */
export type MailEmailChange = (
  about: {
    readonly to: CanonicalEmail
    /** The email that the account has now. */
    readonly present: string
    readonly link: string
    readonly expiresAt: Date
  },
  lifetimeS: number,
) => Promise<boolean>

export interface EmailChanges {
  /**
   * Keeps a change in the place of another one of the account, and mails its link. Whether another
   * account has the address makes no difference here: that is looked at when the mail is sent.
   *
   * @returns false where no link was sent.
   */
  request(by: OwnChange, change: { present: string; email: CanonicalEmail }): Promise<boolean>
  /** A change that can be confirmed; nothing is used up. */
  find(token: string): Promise<OpenEmailChange | undefined>
  /**
   * Uses a link up.
   *
   * @returns the id of the account; undefined where the link does not work any more; `email taken`
   * where another account has the address.
   */
  confirm(token: string, by: LinkUse): Promise<string | 'email taken' | undefined>
}

const tokenBytes = 32

/** @param address - of the page that links lead to; the token is appended. */
export function createEmailChanges({
  table,
  address,
  mail,
}: {
  table: EmailChangeTable
  address: string
  mail: MailEmailChange
}): EmailChanges {
  return {
    async request(by, { present, email }) {
      const token = randomBytes(tokenBytes).toString('base64url')
      const lifetimeS = emailChangeLifetimeHours * 3600
      const expiresAt = await table.make(by, { digest: linkDigest(token), email, lifetimeS })
      if (!expiresAt) return false
      return mail({ to: email, present, link: address + token, expiresAt }, lifetimeS)
    },
    find: (token) => table.find(linkDigest(token)),
    confirm: (token, by) => table.confirm(linkDigest(token), by),
  }
}
