import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { SMTPServer, type SMTPServerOptions } from 'smtp-server'
import { until } from './until.ts'

export interface ReceivedMail {
  readonly from: string
  readonly to: readonly string[]
  readonly raw: string
  readonly subject: string
  readonly text: string
  readonly html: string
  readonly messageId: string
  readonly isSecure: boolean
  readonly user: unknown
}

export interface SmtpReceiver extends AsyncDisposable {
  readonly port: number
  readonly received: readonly ReceivedMail[]
  /** Recipients that are refused, and the reply. */
  readonly refused: Map<string, number>
  /** Whether it turns away everybody. */
  isDown: boolean
  /** Of one recipient, once there is one after the first `after`. */
  mailTo(address: string, after?: number): Promise<ReceivedMail>
  countOf(address: string): number
}

const reply = (responseCode: number, sentence: string) =>
  Object.assign(new Error(sentence), { responseCode })

/** A real SMTP server on loopback, with user `holdfast` and password `mail secret` where it has TLS. */
export async function startSmtp(options: SMTPServerOptions = {}): Promise<SmtpReceiver> {
  const received: ReceivedMail[] = []
  const refused = new Map<string, number>()
  const server = new SMTPServer({
    authOptional: true,
    disableReverseLookup: true,
    closeTimeout: 1000,
    ...(!options.key && { disabledCommands: ['STARTTLS'] }),
    onConnect: (_session, done) => done(receiver.isDown ? reply(421, 'Down') : null),
    onAuth({ username, password }, _session, done) {
      if (username === 'holdfast' && password === 'mail secret') done(null, { user: username })
      else done(reply(535, 'Authentication failed'))
    },
    onRcptTo({ address }, _session, done) {
      const code = refused.get(address)
      done(code ? reply(code, `No such user ${address}`) : null)
    },
    onData(stream, { envelope, secure, user }, done) {
      text(stream).then((raw) => {
        const from = envelope.mailFrom ? envelope.mailFrom.address : ''
        const to = envelope.rcptTo.map(({ address }) => address)
        received.push({ from, to, isSecure: secure, user, ...readMail(raw) })
        done()
      }, done)
    },
    ...options,
  })
  // Clients that give up are no failure of the server.
  server.on('error', () => {})
  server.listen(0, '127.0.0.1')
  await once(server.server, 'listening')
  const to = (address: string) => received.filter((mail) => mail.to.includes(address))
  const receiver: SmtpReceiver = {
    isDown: false,
    port: (server.server.address() as AddressInfo).port,
    received,
    refused,
    async mailTo(address, after = 0) {
      await until(async () => to(address).length > after)
      return to(address)[after] as ReceivedMail
    },
    countOf: (address) => to(address).length,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  }
  return receiver
}

function readMail(raw: string) {
  const header = (part: string, name: string) =>
    new RegExp(`^${name}: (.*(?:\\r\\n[ \\t].*)*)`, 'im')
      .exec(part)?.[1]
      ?.replace(/\r\n[ \t]/g, '') ?? ''
  const boundary = /boundary="([^"]+)"/.exec(raw)?.[1]
  const parts = boundary ? raw.split(`--${boundary}`) : [raw]
  const body = (type: string) => {
    const part = parts.find((each) => header(each, 'Content-Type').startsWith(type)) ?? ''
    const content = part.slice(part.indexOf('\r\n\r\n') + 4)
    return decoded(content, header(part, 'Content-Transfer-Encoding'))
  }
  return {
    raw,
    subject: header(raw, 'Subject'),
    messageId: header(raw, 'Message-ID'),
    text: body('text/plain'),
    html: body('text/html'),
  }
}

function decoded(content: string, encoding: string): string {
  if (encoding === 'base64') return Buffer.from(content, 'base64').toString()
  if (encoding !== 'quoted-printable') return content
  const bytes = content
    .replace(/=\r\n/g, '')
    .replace(/=([\dA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
  return Buffer.from(bytes, 'latin1').toString()
}

/** The one link of a mail that is not a page of everybody. */
export const linkOf = ({ text: body }: ReceivedMail) =>
  /^https?:\/\/\S+$/m.exec(body)?.[0] ?? 'no link'
