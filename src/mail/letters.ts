/** What each mail says: the text and the HTML are made of the same sentences. */
import { Eta } from 'eta'
import { browserName } from '../pages/browser-labels.ts'
import { english, type Message, type MessageKey, type Messages } from '../pages/messages.ts'
import type { MailNotice } from '../storage/mail-table.ts'
import type { WritableMail } from './mail-request.ts'
import type { Mail } from './smtp.ts'

/** A mail before it is put into words. */
interface Letter {
  readonly subject: Message
  readonly lines: readonly Message[]
  readonly link?: { readonly label: MessageKey; readonly href: string }
  readonly closing: readonly Message[]
}

export interface Letters {
  write(mail: WritableMail): Mail
}

export function createLetters({
  issuer,
  messages = english,
}: {
  issuer: string
  messages?: Messages
}): Letters {
  const views = `${import.meta.dirname}/views`
  const html = new Eta({ views, cache: true, autoEscape: true })
  // A text has no markup that a value could be taken for.
  const plain = new Eta({ views, cache: true, autoEscape: false })
  const setting = { issuer, host: new URL(issuer).host, messages }
  return {
    write(mail) {
      const letter = { ...messages, ...letterOf(mail, setting), host: setting.host }
      return {
        to: mail.to,
        subject: messages.text(letter.subject),
        text: plain.render('text', letter),
        html: html.render('html', letter),
      }
    },
  }
}

interface Setting {
  readonly issuer: string
  readonly host: string
  readonly messages: Pick<Messages, 'time'>
}

const linkLabels = {
  forgotten: {
    subject: 'mail.forgotten.subject',
    line: 'mail.forgotten.line',
    ignore: 'mail.forgotten.ignore',
  },
  invitation: {
    subject: 'mail.invitation.subject',
    line: 'mail.invitation.line',
    ignore: 'mail.invitation.ignore',
  },
  reset: { subject: 'mail.reset.subject', line: 'mail.reset.line', ignore: 'mail.reset.ignore' },
} as const satisfies Record<string, Record<string, MessageKey>>

function letterOf(mail: WritableMail, setting: Setting): Letter {
  const { host, issuer, messages } = setting
  switch (mail.kind) {
    case 'notice':
      return noticeOf(mail.notice, setting)
    case 'test':
      return {
        subject: { key: 'mail.test.subject', values: { host } },
        lines: [{ key: 'mail.test.line', values: { host } }],
        closing: [],
      }
    case 'email_change': {
      const { to: email, present } = mail
      const until = { time: messages.time(new Date(mail.expiresAt)) }
      return {
        subject: { key: 'mail.email_change.subject', values: { host } },
        lines: [{ key: 'mail.email_change.line', values: { host, email, present } }],
        link: { label: 'mail.email_change.link', href: mail.link },
        closing: [
          { key: 'mail.email_change.until', values: until },
          { key: 'mail.email_change.ignore' },
        ],
      }
    }
    case 'sign_up': {
      const until = { time: messages.time(new Date(mail.expiresAt)) }
      return {
        subject: { key: 'mail.sign_up.subject', values: { host } },
        lines: [{ key: 'mail.sign_up.line', values: { host, email: mail.to } }],
        link: { label: 'mail.sign_up.link', href: mail.link },
        closing: [
          { key: 'mail.email_change.until', values: until },
          { key: 'mail.sign_up.ignore' },
        ],
      }
    }
    case 'has_account':
      return {
        subject: { key: 'mail.email_taken.subject', values: { host } },
        lines: [{ key: 'mail.has_account.line', values: { host, email: mail.to } }],
        link: { label: 'forgotten.link', href: `${issuer}/forgotten` },
        closing: [{ key: 'mail.has_account.ignore' }],
      }
    case 'email_taken': {
      const { to: email, present } = mail
      return {
        subject: { key: 'mail.email_taken.subject', values: { host } },
        lines: [{ key: 'mail.email_taken.line', values: { host, email, present } }],
        closing: [{ key: 'mail.email_taken.closing' }],
      }
    }
    case 'forgotten':
    case 'invitation':
    case 'reset': {
      const labels = linkLabels[mail.kind]
      const until = { time: messages.time(new Date(mail.expiresAt)) }
      return {
        subject: { key: labels.subject, values: { host } },
        lines: [{ key: labels.line, values: { host, email: mail.to } }],
        link: { label: 'mail.link', href: mail.link },
        closing: [{ key: 'mail.link_until', values: until }, { key: labels.ignore }],
      }
    }
  }
}

/** What to do about some changes that the person has not made. */
const unexpected: Readonly<Partial<Record<string, MessageKey>>> = {
  email_change_requested: 'mail.notice.unexpected_email_change',
  email_changed: 'mail.notice.unexpected_email',
}

function noticeOf(
  { kind, at, address, userAgent }: MailNotice,
  { host, issuer, messages }: Setting,
): Letter {
  const isSignIn = kind === 'signed_in'
  // What it says was written by a trigger, of kinds that My security has labels for.
  const event: Message = {
    key: isSignIn ? 'mail.notice.new_browser' : (`event.${kind}` as MessageKey),
  }
  const values = { time: messages.time(new Date(at)), address: address ?? '' }
  const browser = userAgent ? browserName(userAgent) : ''
  return {
    subject: { key: 'mail.notice.subject', values: { host } },
    lines: [
      { key: 'mail.notice.line', values: { event, host } },
      { key: address ? 'mail.notice.at_from' : 'mail.notice.at', values },
      ...(browser ? [{ key: 'mail.notice.browser', values: { browser } } as const] : []),
    ],
    link: { label: 'mail.notice.link', href: `${issuer}/security` },
    closing: [
      { key: 'mail.notice.expected' },
      { key: unexpected[kind] ?? 'mail.notice.unexpected' },
    ],
  }
}
