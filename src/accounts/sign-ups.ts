/**
 * Sign-up: people make accounts for themselves, as far as the operator allows it. The address is
 * verified first, by a link that is mailed to it. The link makes the account, and leads to the page of
 * a one-time link in which its person sets a passkey or a password.
 */
import { randomUUID as nodeRandomUUID, randomBytes } from 'node:crypto'
import type { SignUpPolicy } from '../config/sign-up-config.ts'
import type { AccountStore } from '../storage/account-store.ts'
import type { OpenSignUp, SignUpOutcome, SignUpTable } from '../storage/sign-up-table.ts'
import { linkDigest } from './account-links.ts'
import type { CanonicalEmail } from './email.ts'
import { printedCodeDigest } from './one-time-codes.ts'
import { absentPasswordHash, defaultPasswordCost } from './password.ts'
import { checkedChange } from './profile.ts'

/** How long an address can be confirmed, and the link that comes of it used, in hours. */
export const signUpLifetimeHours = { confirmation: 24, link: 1 } as const

/** What a mail says to someone who asked for an account. */
export type PreparedSignUp =
  | { readonly link: string; readonly expiresAt: Date }
  /** They have one already. */
  | 'has account'

export interface SignUps {
  /** Whether people with such an address may have an account. */
  allows(email: CanonicalEmail): boolean
  /** The id of the invitation with a code that someone typed, if it can be used. */
  invitationOf(typed: string): Promise<string | undefined>
  /**
   * Makes the link for a mail that is being sent: only here is it looked up whether the address has
   * an account. Undefined where nothing is sent, because the invitation is gone.
   */
  prepare(asked: {
    email: CanonicalEmail
    invitation: string | null
  }): Promise<PreparedSignUp | undefined>
  /** What a link confirms; nothing is used up. Undefined where it does not work, or any more. */
  find(token: string): Promise<OpenSignUp | undefined>
  /**
   * Uses a link up, and makes the account.
   *
   * @returns undefined where the link does not work any more.
   * @throws AccountError `invalid_name`, before anything is used up.
   */
  complete(token: string, name: string): Promise<CompletedSignUp | undefined>
}

export type CompletedSignUp =
  | {
      readonly outcome: 'made'
      readonly accountId: string
      readonly invitation: string | null
      /** The token of the link in which its person sets how to sign in. */
      readonly linkToken: string
    }
  | { readonly outcome: Exclude<SignUpOutcome, 'made'> }

const tokenBytes = 32
const newToken = () => randomBytes(tokenBytes).toString('base64url')

/** @param address - of the page that links lead to; the token is appended. */
export function createSignUps({
  policy,
  table,
  store,
  address,
  randomUUID = nodeRandomUUID,
}: {
  policy: SignUpPolicy
  table: SignUpTable
  store: Pick<AccountStore, 'findByEmail'>
  address: string
  randomUUID?: () => string
}): SignUps {
  const isOfDomain = (email: string) =>
    policy.mode === 'domains' && policy.domains.includes(email.slice(email.lastIndexOf('@') + 1))

  /** The operator may have changed the policy since a link was mailed. */
  const isAllowed = ({ email, invitation }: OpenSignUp) =>
    policy.mode === 'invitation' ? invitation !== null : isOfDomain(email)

  async function find(token: string) {
    const found = await table.find(linkDigest(token))
    return found && isAllowed(found) ? found : undefined
  }

  return {
    find,
    allows: (email) => policy.mode === 'invitation' || isOfDomain(email),

    async invitationOf(typed) {
      const digest = printedCodeDigest(typed)
      return digest && table.findInvitation(digest)
    },

    async prepare({ email, invitation }) {
      if (!isAllowed({ email, invitation })) return undefined
      if (await store.findByEmail(email)) return 'has account'
      const token = newToken()
      const lifetimeS = signUpLifetimeHours.confirmation * 3600
      const expiresAt = await table.make(linkDigest(token), { email, invitation }, lifetimeS)
      return expiresAt && { link: address + token, expiresAt }
    },

    async complete(token, name) {
      const found = await find(token)
      if (!found) return undefined
      const { invitation } = found
      const named = name.trim() === '' ? {} : checkedChange({ name })
      const account = { id: randomUUID(), ...named }
      const linkToken = newToken()
      const outcome = await table.complete(linkDigest(token), {
        account,
        passwordHash: absentPasswordHash(defaultPasswordCost),
        link: { digest: linkDigest(linkToken), lifetimeS: signUpLifetimeHours.link * 3600 },
      })
      if (outcome !== 'made') return outcome && { outcome }
      return { outcome, accountId: account.id, invitation, linkToken }
    },
  }
}
