import { z } from 'zod'
import { isLoopback } from '../net/loopback.ts'

/** How mail is sent. */
export interface MailConfig {
  readonly host: string
  readonly port: number
  /** Whether the connection begins with TLS (smtps), and not by STARTTLS. */
  readonly isImplicitTls: boolean
  /** Whether nothing is sent to a server that offers no TLS. */
  readonly requiresTls: boolean
  readonly login: { readonly user: string; readonly password: string } | undefined
  readonly from: MailSender
}

export interface MailSender {
  readonly name: string
  readonly address: string
}

/** Bytes of the name of a sender: a header field is one line. */
const longestName = 100

const address = /^[^\s\p{C}@<>(),;:"\\]+@[a-z\d-]+(\.[a-z\d-]+)*$/iu

/** Reads `no-reply@example.com` or `Example <no-reply@example.com>`. */
function readSender(text: string): MailSender | undefined {
  const [, name = '', named, plain] = /^(?:([^<>]*)<([^<>]*)>|([^<>]*))$/.exec(text) ?? []
  const sender = { name: name.trim(), address: (named ?? plain ?? '').trim() }
  const isRight = address.test(sender.address) && !/\p{C}/u.test(name) && name.length <= longestName
  return isRight ? sender : undefined
}

const defaultPorts: Readonly<Record<string, number>> = { 'smtp:': 587, 'smtps:': 465 }

/** A URL without anything that is not used; undefined for what is no such URL. */
function readUrl(text: string): URL | undefined {
  const url = URL.parse(text)
  const isPlain = url?.pathname === '' || url?.pathname === '/'
  if (!url?.hostname || !(url.protocol in defaultPorts) || !isPlain) return undefined
  if (url.search || url.hash || Boolean(url.username) !== Boolean(url.password)) return undefined
  try {
    for (const part of [url.username, url.password]) decodeURIComponent(part)
    return url
  } catch {
    return undefined
  }
}

export const mailVariables = {
  HOLDFAST_SMTP_URL: z
    .string()
    .refine(
      (text) => readUrl(text) !== undefined,
      'must be a URL such as smtps://user:password@smtp.example.com, its user and password URL-encoded',
    )
    .optional(),
  HOLDFAST_MAIL_FROM: z
    .string()
    .refine(
      (text) => readSender(text) !== undefined,
      'must be an address such as no-reply@example.com, or Example <no-reply@example.com>',
    )
    .optional(),
  HOLDFAST_ALLOW_SMTP_WITHOUT_TLS: z.enum(['on', 'off'], 'must be on or off').default('off'),
}

const variables = z.object(mailVariables)

/** Undefined where no mail is sent. */
export function mailConfig(values: z.output<typeof variables>): MailConfig | undefined {
  const url = readUrl(values.HOLDFAST_SMTP_URL ?? '')
  const from = readSender(values.HOLDFAST_MAIL_FROM ?? '')
  if (!url || !from) return undefined
  const { username, password } = url
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: Number(url.port) || (defaultPorts[url.protocol] as number),
    isImplicitTls: url.protocol === 'smtps:',
    requiresTls: values.HOLDFAST_ALLOW_SMTP_WITHOUT_TLS !== 'on' && !isLoopback(url),
    login: username
      ? { user: decodeURIComponent(username), password: decodeURIComponent(password) }
      : undefined,
    from,
  }
}

/** The server, without user and password; undefined for what is no such URL. */
export function shownSmtpUrl(text: string | undefined): string | undefined {
  const url = readUrl(text ?? '')
  return url && `${url.protocol}//${url.host}`
}

/** Mistakes that only several variables together show. */
export function mailContradictions(given: Readonly<Record<string, string | undefined>>): string[] {
  const { HOLDFAST_SMTP_URL: url, HOLDFAST_MAIL_FROM: from } = given
  if (Boolean(url) === Boolean(from)) return []
  const [there, missing] = url
    ? ['HOLDFAST_SMTP_URL', 'HOLDFAST_MAIL_FROM']
    : ['HOLDFAST_MAIL_FROM', 'HOLDFAST_SMTP_URL']
  return [`${missing} is missing: it belongs to ${there}.`]
}
