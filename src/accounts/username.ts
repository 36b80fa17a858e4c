/**
 * Usernames: names beside the email to sign in with. ASCII only, so that no two of them look alike,
 * and in lower case.
 */
import { AccountError } from './account-error.ts'

declare const canonical: unique symbol

/** A username in its one form. It has no @, so that it is never an email. */
export type CanonicalUsername = string & { readonly [canonical]: true }

/** In lower case. */
export const usernamePattern = /^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$/

/** Before it is lower-cased, which makes ASCII of some other letters. */
const typedPattern = new RegExp(usernamePattern, 'i')

/** What someone typed as a username, in its one form; undefined for what can be nobody's. */
export function readUsername(typed: string): CanonicalUsername | undefined {
  const text = typed.trim()
  return typedPattern.test(text) ? (text.toLowerCase() as CanonicalUsername) : undefined
}

/** @throws {@link AccountError} `invalid_username` */
export function checkedUsername(typed: string): CanonicalUsername {
  const username = readUsername(typed)
  if (username !== undefined) return username
  throw new AccountError(
    'invalid_username',
    'A username must be 1 to 64 ASCII letters, digits, dots, hyphens and underscores, with a letter or digit first and last',
  )
}
