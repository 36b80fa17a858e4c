import type { AccountLinks } from '../accounts/account-links.ts'
import type { SignUps } from '../accounts/sign-ups.ts'
import type { DeliveryOutcome } from '../deliveries/deliveries.ts'
import type { Vault } from '../keys/vault.ts'
import type { AccountStore } from '../storage/account-store.ts'
import type { Limiter, MakeLimiter } from '../storage/limiter.ts'
import type { MailDelivery } from '../storage/mail-table.ts'
import type { Letters } from './letters.ts'
import type { MailRequest, WritableMail } from './mail-request.ts'
import { openRequest } from './outbox.ts'
import { outcomeOf, type Smtp, type SmtpProblem } from './smtp.ts'

/** Notices that one person is sent, in a time in seconds. */
export const noticeLimit = { name: 'mail-notices', points: 30, duration: 60 * 60 }

export interface MailSenderOptions {
  readonly smtp: Pick<Smtp, 'send'>
  readonly letters: Letters
  readonly vault: Pick<Vault, 'open'>
  readonly store: Pick<AccountStore, 'findByEmail' | 'findById'>
  readonly recover: AccountLinks['recover']
  readonly prepareSignUp: SignUps['prepare']
  readonly makeLimiter: MakeLimiter
  /** The host of the issuer, for the ids of mails. */
  readonly host: string
  readonly onProblem: (problem: SmtpProblem) => void
}

/** Sends one mail of the queue. What was taken is sent by this node alone. */
export function createMailSender({
  smtp,
  letters,
  vault,
  store,
  recover,
  prepareSignUp,
  makeLimiter,
  host,
  onProblem,
}: MailSenderOptions): (delivery: MailDelivery) => Promise<DeliveryOutcome> {
  const notices: Limiter = makeLimiter(noticeLimit)

  /** To the address that the account has now, unless that is what has changed. */
  async function writableNotice({ accountId, notice }: MailDelivery) {
    if (!accountId || !notice) return undefined
    const to = notice.to ?? (await store.findById(accountId))?.email
    if (!to || (await notices.take(accountId)) !== undefined) return undefined
    return { kind: 'notice', to, notice } as const
  }

  async function writableSignUp(
    mail: Extract<MailRequest, { kind: 'sign_up' }>,
  ): Promise<WritableMail | undefined> {
    const { to, invitation } = mail
    const made = await prepareSignUp({ email: to, invitation })
    if (made === 'has account') return { kind: 'has_account', to }
    return made && { kind: 'sign_up', to, link: made.link, expiresAt: made.expiresAt.toISOString() }
  }

  async function writable(delivery: MailDelivery): Promise<WritableMail | undefined> {
    if (delivery.notice) return writableNotice(delivery)
    const mail = await openRequest(delivery, vault)
    // Only here does anything depend on whether there is such an account: no answer to a stranger.
    if (mail?.kind === 'email_change' && (await store.findByEmail(mail.to))) {
      const { to, present } = mail
      return { kind: 'email_taken', to, present }
    }
    if (mail?.kind === 'sign_up') return writableSignUp(mail)
    if (mail?.kind !== 'forgotten') return mail
    const made = await recover(mail.to)
    return made && { ...mail, link: made.link, expiresAt: made.expiresAt.toISOString() }
  }

  return async (delivery) => {
    const mail = await writable(delivery)
    if (!mail) return 'gone'
    const problem = await smtp.send({
      ...letters.write(mail),
      messageId: `<mail-${delivery.id}@${host}>`,
    })
    if (problem) onProblem(problem)
    return outcomeOf(problem)
  }
}
