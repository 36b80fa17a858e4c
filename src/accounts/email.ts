import { canonicalDomain } from '../net/domain.ts'
import { AccountError } from './account-error.ts'

// RFC 5321 section 4.5.3.1: a path of 256 octets, less its angle brackets.
const maxEmailBytes = 254

declare const canonical: unique symbol

/** An email in its one form: limits, lookups and rows have this type, so that no two can differ. */
export type CanonicalEmail = string & { readonly [canonical]: true }

/** What someone typed as an email, in its one form; undefined for what can be nobody's email. */
export function readEmail(typed: string): CanonicalEmail | undefined {
  try {
    return normalizeEmail(typed)
  } catch (error) {
    if (error instanceof AccountError) return undefined
    throw error
  }
}

/**
 * One spelling for one mailbox. The local part is lower-cased too: RFC 5321 lets it be case
 * sensitive, no mail host of today makes it so, and people do not remember which case they typed.
 *
 * @throws {@link AccountError} `invalid_email`
 */
export function normalizeEmail(email: string): CanonicalEmail {
  // NFC last: some letters have a composed form in lower case only.
  const text = email.trim().toLowerCase().normalize('NFC')
  const at = text.lastIndexOf('@')
  const local = text.slice(0, at)
  const typedDomain = text.slice(at + 1)
  const domain = canonicalDomain(typedDomain) ?? ''
  const normal = `${local}@${domain}`
  if (
    at < 1 ||
    !domain ||
    /[\s\p{C}@<>]/u.test(local) ||
    Buffer.byteLength(normal) > maxEmailBytes
  ) {
    throw new AccountError('invalid_email', 'Expected an email address such as ada@example.com')
  }
  return normal as CanonicalEmail
}
