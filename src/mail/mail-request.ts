/** What a mail is about, as it waits in the queue. */
import type { CanonicalEmail } from '../accounts/email.ts'
import type { MailNotice } from '../storage/mail-table.ts'

/** A link, and until when it works: ISO 8601. */
interface WithLink {
  readonly link: string
  readonly expiresAt: string
}

/**
 * For one address, in its canonical form. Whether an account has it is looked up when the mail is
 * sent: the link for a forgotten password is made then, and one that confirms another email is sent
 * to nobody who has an account already.
 */
export type MailRequest =
  | { readonly kind: 'forgotten'; readonly to: CanonicalEmail }
  | ({ readonly kind: 'invitation' | 'reset'; readonly to: string } & WithLink)
  | ({
      readonly kind: 'email_change'
      readonly to: CanonicalEmail
      readonly present: string
    } & WithLink)
  | { readonly kind: 'sign_up'; readonly to: CanonicalEmail; readonly invitation: string | null }
  | { readonly kind: 'test'; readonly to: string }

/** A mail that can be written now. */
export type WritableMail =
  | Exclude<MailRequest, { kind: 'forgotten' | 'sign_up' }>
  | ({ readonly kind: 'forgotten' | 'sign_up'; readonly to: string } & WithLink)
  | { readonly kind: 'has_account'; readonly to: string }
  | { readonly kind: 'email_taken'; readonly to: string; readonly present: string }
  | { readonly kind: 'notice'; readonly to: string; readonly notice: MailNotice }
