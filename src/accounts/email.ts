import { domainToASCII } from 'node:url'
import { AccountError } from './account-error.ts'

// RFC 5321 section 4.5.3.1: a path of 256 octets, less its angle brackets.
const MAX_EMAIL_BYTES = 254

/**
 * One spelling for one mailbox. The local part is lower-cased too: RFC 5321 lets it be case
 * sensitive, no mail host of today makes it so, and people do not remember which case they typed.
 */
export function normalizeEmail(email: string): string {
  const text = email.trim().normalize('NFC').toLowerCase()
  const at = text.lastIndexOf('@')
  const local = text.slice(0, at)
  const domain = domainToASCII(text.slice(at + 1))
  const normal = `${local}@${domain}`
  if (
    at < 1 ||
    !domain ||
    /[\s\p{C}@<>]/u.test(local) ||
    Buffer.byteLength(normal) > MAX_EMAIL_BYTES
  ) {
    throw new AccountError('invalid_email', 'Expected an email address such as ada@example.com')
  }
  return normal
}
