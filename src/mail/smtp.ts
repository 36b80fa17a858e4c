/** One mail after the other to the SMTP server of the operator, and what it says about them. */
import { createTransport } from 'nodemailer'
import { createBoundedQueue } from '../accounts/bounded-queue.ts'
import type { MailConfig } from '../config/mail-config.ts'
import type { DeliveryOutcome } from '../deliveries/deliveries.ts'

export interface Mail {
  /** The canonical form of one address. */
  readonly to: string
  readonly subject: string
  readonly text: string
  readonly html: string
  /** The same for each attempt, so that a mailbox shows one mail where the server was sent two. */
  readonly messageId?: string
}

export type SmtpProblemCode =
  | 'unreachable'
  | 'no_tls'
  | 'certificate'
  | 'login'
  | 'sender'
  | 'recipient'
  | 'message'
  | 'other'

/** Why a mail was not sent. */
export interface SmtpProblem {
  readonly code: SmtpProblemCode
  /** Of the server, if it has answered. */
  readonly reply: number | undefined
  /** What the server or the connection says. It may name the recipient: not for a log. */
  readonly detail: string
}

export interface Smtp {
  /** Undefined once the server has accepted the mail. */
  send(mail: Mail): Promise<SmtpProblem | undefined>
  /** Connects and logs in, and sends nothing. */
  check(): Promise<SmtpProblem | undefined>
}

/** Connections at a time: servers allow few. */
const connectionsAtOnce = 4

const timeoutMs = { connection: 10_000, greeting: 10_000, socket: 20_000 }

/** One mailbox without quotes (RFC 5321 section 4.1.2): what is a list, a name or a route is not sent. */
const oneAddress = /^[^\s\p{C}()<>[\]:;@\\,"]+@[^\s\p{C}()<>[\]:;@\\,"]+$/u

/** Connects anew for each mail. */
export function createSmtp(
  { host, port, login, from, ...tls }: MailConfig,
  { ca }: { ca?: string } = {},
): Smtp {
  const transport = createTransport({
    host,
    port,
    secure: tls.isImplicitTls,
    requireTLS: tls.requiresTls,
    ...(ca && { tls: { ca } }),
    ...(login && { auth: { user: login.user, pass: login.password } }),
    dnsTimeout: timeoutMs.connection,
    connectionTimeout: timeoutMs.connection,
    greetingTimeout: timeoutMs.greeting,
    socketTimeout: timeoutMs.socket,
    disableFileAccess: true,
    disableUrlAccess: true,
  })
  const turns = createBoundedQueue({
    atOnce: connectionsAtOnce,
    waiting: 1000,
    patienceMs: 2 * timeoutMs.socket,
  })
  const problemOf = (error: unknown) => {
    if (!(error instanceof Error)) throw error
    return smtpProblem(error)
  }

  return {
    async send({ to, messageId, ...content }) {
      if (!oneAddress.test(to)) return { code: 'recipient', reply: 501, detail: 'Invalid address' }
      return turns.run(() =>
        transport
          .sendMail({
            ...content,
            from: { ...from },
            // As an object, which is never read as a list of addresses. The envelope is made of it.
            to: { name: '', address: to },
            headers: { 'Auto-Submitted': 'auto-generated', 'X-Auto-Response-Suppress': 'All' },
            ...(messageId && { messageId }),
          })
          .then(() => undefined, problemOf),
      )
    },
    check: () => transport.verify().then(() => undefined, problemOf),
  }
}

interface SmtpError extends Error {
  code?: string
  originalCode?: string
  command?: string
  responseCode?: number
}

const certificateCodes = /^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_CERT|ERR_SSL|EPROTO)/

function smtpProblem(error: SmtpError): SmtpProblem {
  return { code: codeOf(error), reply: error.responseCode, detail: error.message }
}

function codeOf({
  code = '',
  originalCode = '',
  command = '',
  message,
}: SmtpError): SmtpProblemCode {
  if (certificateCodes.test(originalCode) || /certificate|altnames/i.test(message)) {
    return 'certificate'
  }
  if (code === 'ETLS' || command === 'STARTTLS') return 'no_tls'
  if (code === 'EAUTH' || command.startsWith('AUTH')) return 'login'
  if (command === 'MAIL FROM') return 'sender'
  if (command === 'RCPT TO' || code === 'EENVELOPE') return 'recipient'
  if (command === 'DATA' || code === 'EMESSAGE') return 'message'
  return unreachable.has(code) ? 'unreachable' : 'other'
}

const unreachable = new Set(['ECONNECTION', 'ETIMEDOUT', 'ESOCKET', 'EDNS', 'ECONNREFUSED'])

/** What a server has answered about this one mail or its recipient, and would answer again. */
export function outcomeOf(problem: SmtpProblem | undefined): DeliveryOutcome {
  if (!problem) return 'delivered'
  const isOfMail = problem.code === 'recipient' || problem.code === 'message'
  return isOfMail && (problem.reply ?? 0) >= 500 ? 'refused' : 'failed'
}

const advice: Readonly<Record<SmtpProblemCode, string>> = {
  unreachable:
    'The SMTP server cannot be reached. Check the host and port in HOLDFAST_SMTP_URL, and whether a firewall lets this machine connect to it.',
  no_tls:
    'The SMTP server offers no TLS (STARTTLS). Use a port with TLS, such as smtps://…:465, or, in a network that nobody else can read, set HOLDFAST_ALLOW_SMTP_WITHOUT_TLS=on.',
  certificate:
    'The certificate of the SMTP server is not trusted or is for another name. Use the host name of its certificate in HOLDFAST_SMTP_URL; where a private authority issued it, name its file in NODE_EXTRA_CA_CERTS.',
  login:
    'The SMTP server refused the user or password in HOLDFAST_SMTP_URL. Check both, and that they are URL-encoded.',
  sender:
    'The SMTP server refused the sender. Check HOLDFAST_MAIL_FROM, and that this user may send as that address.',
  recipient: 'The SMTP server refused the recipient. Check the address.',
  message: 'The SMTP server refused the mail after it was sent.',
  other: 'The SMTP server failed.',
}

/** Two sentences for an operator. */
export function describeSmtpProblem({ code, detail }: SmtpProblem): string {
  return `${advice[code]} It says: ${detail.replace(/\p{C}+/gu, ' ').slice(0, 300)}`
}
