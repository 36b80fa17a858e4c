import type { Database } from './database.ts'
import { createDeliveryQueue, type QueuedDelivery } from './delivery-queue.ts'

/** A change that the person of an account learns of, as `security_events` has it. */
export interface MailNotice {
  readonly kind: string
  /** ISO 8601. */
  readonly at: string
  readonly address: string | null
  readonly userAgent: string | null
  /** Who learns of it, where that is the address before a change. */
  readonly to?: string
}

/** A mail that is to be sent. */
export interface MailDelivery extends QueuedDelivery {
  readonly lane: string
  readonly accountId: string | null
  /** What only the nodes can read; null for a notice. */
  readonly sealed: string | null
  readonly notice: MailNotice | null
}

/**
 * Who has caused a mail: strangers, of whom those who want an account count apart, so that a flood of
 * them keeps nobody from a link, or a person or operator who was authenticated.
 */
export type MailOrigin = 'stranger' | 'sign_up' | 'known'

export interface NewMail {
  readonly lane: string
  readonly origin: MailOrigin
  readonly sealed: string
  /** Seconds after which nobody would use it. */
  readonly lifetimeS: number
}

/** Rows of each origin that may wait. Notices have their own bound in the trigger that queues them. */
export const mostWaiting: Readonly<Record<MailOrigin, number>> = {
  stranger: 1000,
  sign_up: 1000,
  known: 10_000,
}

/** Between the first two attempts: longer than one takes, and than a server that greylists waits. */
const firstPauseS = 120

export type MailTable = ReturnType<typeof createMailTable>

/** The table `mail_deliveries`. A trigger of `security_events` fills it as well. */
export function createMailTable(database: Database) {
  return {
    ...createDeliveryQueue<MailDelivery>(database, {
      table: 'mail_deliveries',
      lane: 'lane',
      columns: 'lane, account_id as "accountId", sealed, notice',
      firstPauseS,
    }),

    /** @returns false where too many wait: then nothing is queued. */
    async queue({ lane, origin, sealed, lifetimeS }: NewMail): Promise<boolean> {
      const { rowCount } = await database.query({
        name: 'mail-queue',
        text: `insert into mail_deliveries (lane, origin, sealed, expires_at)
               select $1, $2, $3, now() + $4 * interval '1 second'
                where (select count(*) from (select from mail_deliveries
                                              where origin = $2 limit $5) as waiting) < $5`,
        values: [lane, origin, sealed, lifetimeS, mostWaiting[origin]],
      })
      return rowCount === 1
    },

    /** Says whether the servers send mail: notices of changes are queued only then. */
    async setSending(isSending: boolean): Promise<void> {
      await database.query({
        text: isSending
          ? 'insert into mail_senders default values on conflict on constraint mail_senders_pkey do nothing'
          : 'delete from mail_senders',
      })
    },
  }
}
