import { hash } from 'node:crypto'
import type { MailLink } from '../accounts/account-links.ts'
import type { CanonicalEmail } from '../accounts/email.ts'
import type { MailEmailChange } from '../accounts/email-changes.ts'
import type { Vault } from '../keys/vault.ts'
import type { MailDelivery, MailOrigin, MailTable } from '../storage/mail-table.ts'
import type { MailRequest } from './mail-request.ts'

/** Puts mail into the queue, from which one of the servers sends it. */
export interface Outbox {
  /** @returns false where too much waits. */
  queue(
    mail: MailRequest & { readonly to: CanonicalEmail },
    about: { readonly origin: MailOrigin; readonly lifetimeS: number },
  ): Promise<boolean>
}

/** The lane of an address: it names nobody. */
const laneOf = (address: string) => hash('sha256', address, 'base64url')

const sealedFor = (lane: string) => `mail ${lane}`

export function createOutbox({
  table,
  vault,
}: {
  table: Pick<MailTable, 'queue'>
  vault: Pick<Vault, 'seal'>
}): Outbox {
  return {
    async queue(mail, about) {
      const lane = laneOf(mail.to)
      const sealed = await vault.seal(JSON.stringify(mail), sealedFor(lane))
      return table.queue({ ...about, lane, sealed })
    },
  }
}

/** Sends links of accounts to their users, where mail is sent at all. */
export const createLinkMail =
  (outbox: Outbox | undefined): MailLink =>
  async (kind, { to, link, expiresAt }, lifetimeS) => {
    const mail = { kind, to, link, expiresAt: expiresAt.toISOString() }
    return (await outbox?.queue(mail, { origin: 'known', lifetimeS })) ?? false
  }

/** Sends links that confirm another email. */
export const createEmailChangeMail =
  (outbox: Outbox): MailEmailChange =>
  async ({ to, present, link, expiresAt }, lifetimeS) => {
    const expiry = expiresAt.toISOString()
    const mail = { kind: 'email_change', to, present, link, expiresAt: expiry } as const
    return outbox.queue(mail, { origin: 'known', lifetimeS })
  }

/** What a row of the queue is about; undefined for one that this node cannot read. */
export async function openRequest(
  { lane, sealed }: Pick<MailDelivery, 'lane' | 'sealed'>,
  vault: Pick<Vault, 'open'>,
): Promise<MailRequest | undefined> {
  const opened = sealed === null ? undefined : await vault.open(sealed, sealedFor(lane))
  return opened && (JSON.parse(opened.text) as MailRequest)
}
