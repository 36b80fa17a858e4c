import { randomBytes, randomUUID } from 'node:crypto'
import test from 'ava'
import { createAccountLinks } from '../../src/accounts/account-links.ts'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { normalizeEmail, readEmail } from '../../src/accounts/email.ts'
import type { MailConfig } from '../../src/config/mail-config.ts'
import { deliverBatch } from '../../src/deliveries/deliveries.ts'
import { linkAddress } from '../../src/http/routes.ts'
import { createLetters } from '../../src/mail/letters.ts'
import { createLinkMail, createOutbox } from '../../src/mail/outbox.ts'
import { createMailSender, noticeLimit } from '../../src/mail/sender.ts'
import {
  createSmtp,
  describeSmtpProblem,
  outcomeOf,
  type SmtpProblem,
} from '../../src/mail/smtp.ts'
import { freePort } from '../../src/net/free-port.ts'
import { english } from '../../src/pages/messages.ts'
import { mostWaiting } from '../../src/storage/mail-table.ts'
import type { SecurityEventKind } from '../../src/storage/security-event-table.ts'
import { cheapCost } from '../support/accounts.ts'
import { createAuthority } from '../support/certificates.ts'
import { useCommandLine } from '../support/cli.ts'
import { useFolder } from '../support/folder.ts'
import { query } from '../support/query.ts'
import { startSecondNode } from '../support/second-node.ts'
import { startTestServer, type TestServer } from '../support/server.ts'
import { linkOf, type ReceivedMail, type SmtpReceiver, startSmtp } from '../support/smtp.ts'
import { until } from '../support/until.ts'

/** id-kp-serverAuth */
const serverAuth = '1.3.6.1.5.5.7.3.1'

const environment = (port: number) => ({
  HOLDFAST_SECRET: randomBytes(32).toString('hex'),
  HOLDFAST_SMTP_URL: `smtp://127.0.0.1:${port}`,
  HOLDFAST_MAIL_FROM: 'Holdfast, the test <no-reply@example.com>',
})

const command = useCommandLine(test)
const folder = useFolder(test)
let smtp: SmtpReceiver
let shared: Record<string, string>
let server: TestServer
const opened = new AsyncDisposableStack()

test.before(async () => {
  smtp = opened.use(await startSmtp())
  shared = environment(smtp.port)
  server = opened.use(await startTestServer(shared))
})
test.after.always(() => opened.disposeAsync())

const outbox = () => createOutbox({ table: server.storage.mail, vault: server.keys.vault })
const newAddress = () => normalizeEmail(`${randomUUID()}@example.com`)
const known = { origin: 'known', lifetimeS: 3600 } as const
const invitation = (to = newAddress(), link = `https://id.example.com/link/${randomUUID()}`) =>
  ({ kind: 'invitation', to, link, expiresAt: '2026-01-02T03:04:05Z' }) as const
const rowsOf = async () =>
  query(server.databaseUrl, 'select * from mail_deliveries order by id') as Promise<
    { id: string; attempts: number; due_at: Date }[]
  >

const configOf = (changes: Partial<MailConfig> = {}): MailConfig => ({
  host: '127.0.0.1',
  port: smtp.port,
  isImplicitTls: false,
  requiresTls: false,
  login: undefined,
  from: { name: '', address: 'no-reply@example.com' },
  ...changes,
})

/** A node that takes from the queue of the server, when it is asked to. */
const nodeOf = (at: MailConfig = configOf()) => ({
  queue: server.storage.mail,
  send: createMailSender({
    smtp: createSmtp(at),
    letters: createLetters({ issuer: server.issuer }),
    vault: server.keys.vault,
    store: server.storage.accounts,
    recover: async () => undefined,
    prepareSignUp: async () => undefined,
    makeLimiter: server.storage.rateLimits.makeLimiter,
    host: 'id.example.com',
    onProblem: () => {},
  }),
  onDone: () => {},
  onError: () => {},
})

test.serial('sends what is queued, once, in text and HTML', async (t) => {
  const mail = invitation()
  t.true(await outbox().queue(mail, known))
  const received = await smtp.mailTo(mail.to)
  t.like(received, { from: 'no-reply@example.com', to: [mail.to] })
  t.is(received.subject, `Your account at ${new URL(server.issuer).host}`)
  t.is(linkOf(received), mail.link)
  t.true(received.html.includes(`<a href="${mail.link}">`))
  t.regex(received.text, /once, until 2 Jan 2026, 03:04/)
  t.regex(received.raw, /^Auto-Submitted: auto-generated\r$/m)
  t.regex(received.raw, /^From: "Holdfast, the test" <no-reply@example\.com>\r$/m)
  await until(async () => (await rowsOf()).length === 0)
  t.is(smtp.countOf(mail.to), 1)
})

test.serial('shows no reader of the queue or of the log what a mail holds', async (t) => {
  const mail = invitation()
  smtp.refused.set(mail.to, 450)
  await outbox().queue(mail, known)
  await until(async () => (await rowsOf()).some(({ attempts }) => attempts === 1))
  const [row] = await query(
    server.databaseUrl,
    `select lane, sealed, row_to_json(mail_deliveries)::text as shown from mail_deliveries
      where attempts = 1`,
  )
  const shown = `${row?.shown} ${Buffer.from(String(row?.sealed), 'base64url').toString('latin1')}`
  for (const secret of [mail.to, mail.link.split('/').at(-1) ?? '']) {
    t.false(shown.includes(secret))
    t.false(server.logged.some((line) => line.includes(secret)))
  }
  // What was sealed for one lane opens in no other.
  const of = { id: '1', attempts: 1, accountId: null, notice: null }
  const { send } = nodeOf()
  t.is(await send({ ...of, lane: 'another', sealed: String(row?.sealed) }), 'gone')
  await query(server.databaseUrl, 'delete from mail_deliveries where lane = $1', [row?.lane])
})

test.serial(
  'tries again after a reply that may change, and gives up after one that will not',
  async (t) => {
    const [later, never] = [invitation(), invitation()]
    smtp.refused.set(later.to, 450).set(never.to, 550)
    await outbox().queue(later, known)
    await outbox().queue(never, known)
    await until(async () => {
      const rows = await rowsOf()
      return rows.length === 1 && rows[0]?.attempts === 1
    })
    const [row] = await rowsOf()
    const pauseMs = Number(row?.due_at) - Date.now()
    t.true(pauseMs > 60_000 && pauseMs <= 120_000)
    await server.flushAudit()
    const [event] = await query(
      server.databaseUrl,
      `select details from audit_events where event = 'mail.undelivered'`,
    )
    t.deepEqual(event?.details, { attempts: 1 })
    smtp.refused.clear()
    await query(server.databaseUrl, 'update mail_deliveries set due_at = now()')
    await smtp.mailTo(later.to)
    await until(async () => (await rowsOf()).length === 0)
    const metrics = await (await fetch(`http://${server.operators}/metrics`)).text()
    t.regex(metrics, /^holdfast_mail_deliveries_total\{outcome="given_up"\} 1/m)
    t.true(server.logged.some((line) => line.includes('"mail.refused"') && line.includes('550')))
  },
)

test.serial('keeps mail while the SMTP server is down', async (t) => {
  const mails = Array.from({ length: 3 }, () => invitation())
  smtp.isDown = true
  await Promise.all(mails.map((mail) => outbox().queue(mail, known)))
  await until(async () => (await rowsOf()).every(({ attempts }) => attempts === 1))
  t.is((await rowsOf()).length, 3)
  smtp.isDown = false
  await query(server.databaseUrl, 'update mail_deliveries set due_at = now()')
  await until(async () => (await rowsOf()).length === 0)
  for (const { to } of mails) t.is(smtp.countOf(to), 1)
})

test.serial('sends each mail by one of several nodes', async (t) => {
  const mails = Array.from({ length: 24 }, () => invitation())
  await Promise.all(mails.map((mail) => outbox().queue(mail, known)))
  // And the server itself.
  await Promise.all(Array.from({ length: 6 }, () => deliverBatch(nodeOf())))
  await until(async () => (await rowsOf()).length === 0)
  t.deepEqual(
    mails.map(({ to }) => smtp.countOf(to)),
    mails.map(() => 1),
  )
})

test.serial('queues a thousand mails that strangers cause, and then no more', async (t) => {
  await query(
    server.databaseUrl,
    `insert into mail_deliveries (lane, origin, sealed, due_at, expires_at)
     select 'flood ' || each, 'stranger', 'x', now() + interval '1 hour', now() + interval '1 hour'
       from generate_series(1, $1::int) as each`,
    [mostWaiting.stranger],
  )
  t.false(await outbox().queue(invitation(), { origin: 'stranger', lifetimeS: 60 }))
  const mail = invitation()
  t.true(await outbox().queue(mail, known), 'others wait for no stranger')
  await smtp.mailTo(mail.to)
  await query(server.databaseUrl, `delete from mail_deliveries where lane like 'flood %'`)
})

test.serial('queues mails of strangers beside a thousand that others cause', async (t) => {
  await query(
    server.databaseUrl,
    `insert into mail_deliveries (lane, origin, sealed, due_at, expires_at)
     select 'others ' || each, 'known', 'x', now() + interval '1 hour', now() + interval '1 hour'
       from generate_series(1, $1::int) as each`,
    [mostWaiting.stranger],
  )
  const mail = invitation()
  t.true(await outbox().queue(mail, { origin: 'stranger', lifetimeS: 60 }))
  await smtp.mailTo(mail.to)
  await query(server.databaseUrl, `delete from mail_deliveries where lane like 'others %'`)
})

test.serial('sends nothing that has expired', async (t) => {
  const mail = invitation()
  await outbox().queue(mail, { origin: 'known', lifetimeS: 0 })
  t.is(await deliverBatch(nodeOf()), 0)
  t.is(smtp.countOf(mail.to), 0)
  t.is((await server.storage.mail.removeExpired(10)).rows, 1)
})

test.serial('sends with a login over STARTTLS, and says what is wrong', async (t) => {
  const authority = await createAuthority()
  const names = [{ type: 'ip', value: '127.0.0.1' }] as const
  const { cert, key } = await authority.issue({ names: [...names], usage: [serverAuth] })
  await using secure = await startSmtp({ cert, key, authOptional: false })
  await using plain = await startSmtp()
  const login = { user: 'holdfast', password: 'mail secret' }
  const mail = { to: 'ada@example.com', subject: 's', text: 't', html: 'h' }
  const to = (changes: Partial<MailConfig>, trust = { ca: authority.cert }) =>
    createSmtp(configOf({ port: secure.port, requiresTls: true, login, ...changes }), trust)
  t.is(await to({}).send(mail), undefined)
  t.is(await to({}).check(), undefined)
  t.like(secure.received, [{ isSecure: true, user: 'holdfast' }])
  secure.refused.set(mail.to, 550)
  const problems = await Promise.all([
    to({}, { ca: cert }).send(mail),
    to({ port: plain.port }).send(mail),
    to({ port: await freePort() }).send(mail),
    to({ login: { user: 'holdfast', password: 'wrong' } }).send(mail),
    to({}).send(mail),
  ])
  t.deepEqual(
    problems.map((problem) => problem?.code),
    ['certificate', 'no_tls', 'unreachable', 'login', 'recipient'],
  )
  t.deepEqual(problems.map(outcomeOf), ['failed', 'failed', 'failed', 'failed', 'refused'])
  t.regex(describeSmtpProblem(problems[0] as SmtpProblem), /NODE_EXTRA_CA_CERTS/)
  t.is(secure.received.length, 1)
  t.deepEqual(plain.received, [], 'a password is never sent without TLS')
})

test.serial('takes no address that is more than one, or that is a line of a header', async (t) => {
  const lines = ['a\r\nBcc: eve@example.com', 'a\nb', 'a\0', 'a <eve@example.com>,b', 'a b']
  for (const local of lines) t.is(readEmail(`${local}@example.com`), undefined)
  const mail = { subject: 'One\r\nBcc: eve@example.com', text: 't', html: 'h' }
  const { send } = createSmtp(configOf())
  for (const to of [
    'a,eve@example.com',
    'a;eve@example.com',
    'g:eve@example.com',
    '"a"@b@c',
    'a',
  ]) {
    t.like(await send({ ...mail, to }), { code: 'recipient', reply: 501 })
  }
  t.is(await send({ ...mail, to: 'one@example.com' }), undefined)
  const received = await smtp.mailTo('one@example.com')
  t.deepEqual(received.to, ['one@example.com'])
  t.notRegex(received.raw, /^Bcc:/im)
})

test.serial('mails the links of an account to its address, in its one form', async (t) => {
  const to = newAddress()
  const store = server.storage.accounts
  await createAccounts({ store, cost: cheapCost }).add({ email: to })
  const links = createAccountLinks({
    table: server.storage.accountLinks,
    store,
    address: linkAddress(server.issuer),
    mail: createLinkMail(outbox()),
  })
  const [name, domain] = to.split('@')
  const made = await links.invite(`${name?.toUpperCase()}@${domain}`)
  t.true(made.mailed)
  t.is(linkOf(await smtp.mailTo(to)), made.link)
  const reset = await links.reset(to, { passkeys: false, codeApp: false })
  const mails = [await smtp.mailTo(to, 1), await smtp.mailTo(to, 2)]
  const [mail] = mails.filter(({ text }) => text.includes(reset.link))
  t.regex(mail?.subject ?? '', /was reset/)
  t.is((await fetch(reset.link)).status, 200)
})

const recordOf = (kind: SecurityEventKind, accountId: string, userAgent = firefox) =>
  server.storage.securityEvents.append({ kind, accountId, userAgent, address: '192.0.2.7' })

const firefox = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'

async function person() {
  const email = newAddress()
  const store = server.storage.accounts
  const { id } = await createAccounts({ store, cost: cheapCost }).add({ email })
  return { email, id }
}

const told = [
  'password_changed',
  'own_password_changed',
  'account_reset',
  'passkey_added',
  'passkey_removed',
  'passkey_counter_refused',
  'code_app_set_up',
  'code_app_removed',
  'recovery_codes_replaced',
  'recovery_code_used',
] as const

test.serial('tells a person by mail of each change of a credential', async (t) => {
  const { id, email } = await person()
  for (const kind of told) await recordOf(kind, id)
  await smtp.mailTo(email, told.length - 1)
  const mails = smtp.received.filter(({ to }) => to.includes(email))
  for (const kind of told) {
    const of = mails.filter(({ text }) => text.includes(english.text(`event.${kind}`)))
    t.is(of.length, 1, kind)
    t.regex(of[0]?.text ?? '', /from the network address 192\.0\.2\.7\s+Browser: Firefox on Linux/)
    t.is(linkOf(of[0] as ReceivedMail), `${server.issuer}/security`)
  }
})

test.serial('tells a person of a sign-in with a new browser, and of no other', async (t) => {
  const { id, email } = await person()
  const browsers = [firefox, firefox, firefox.replaceAll('140', '141'), 'Browser of a thief/1.0']
  for (const browser of browsers) await recordOf('signed_in', id, browser)
  await recordOf('session_bound', id)
  await recordOf('passkey_removed', id)
  const mails = [await smtp.mailTo(email), await smtp.mailTo(email, 1)]
  const isOfSignIn = ({ text }: ReceivedMail) => text.includes('a new browser')
  t.is(mails.filter(isOfSignIn).length, 1)
  await until(async () => (await rowsOf()).length === 0)
  t.is(smtp.countOf(email), 2)
})

test.serial('bounds the notices that wait for an account, and those of an hour', async (t) => {
  const { id, email } = await person()
  smtp.isDown = true
  for (let each = 0; each < 25; each += 1) await recordOf('passkey_added', id)
  t.is((await rowsOf()).length, 20)
  await query(server.databaseUrl, 'delete from mail_deliveries')
  smtp.isDown = false
  const limiter = server.storage.rateLimits.makeLimiter(noticeLimit)
  for (let each = 0; each < noticeLimit.points; each += 1) await limiter.take(id)
  await recordOf('passkey_added', id)
  await until(async () => (await rowsOf()).length === 0)
  t.is(smtp.countOf(email), 0)
})

test.serial('says what is wrong: holdfast mail test', async (t) => {
  const run = async (changes: Record<string, string>, address = 'ada@example.com') => {
    const env = { ...shared, HOLDFAST_TLS: 'off', ...changes }
    return command({ cwd: folder, env }, ['mail', 'test', address])
  }
  const to = newAddress()
  const well = await run({}, to)
  t.like(well, { code: 0, stdout: `127.0.0.1:${smtp.port} accepted a mail for ${to}.\n` })
  t.is((await smtp.mailTo(to)).subject, 'Test mail from localhost:9443')
  const down = await run({ HOLDFAST_SMTP_URL: `smtp://127.0.0.1:${await freePort()}` })
  t.like(down, { code: 1, stdout: '' })
  t.regex(down.stderr, /^holdfast: The SMTP server cannot be reached\. Check the host and port/)
  smtp.refused.set(to, 550)
  t.regex((await run({}, to)).stderr, /^holdfast: The SMTP server refused the recipient\./)
  t.regex((await run({}, 'no address')).stderr, /^holdfast: Expected an email address/)
  const off = await run({ HOLDFAST_SMTP_URL: '', HOLDFAST_MAIL_FROM: '' })
  t.regex(off.stderr, /^holdfast: No mail is sent: set HOLDFAST_SMTP_URL/)
})

test.serial('queues no notice where no mail is sent', async (t) => {
  const { id } = await person()
  await server.storage.mail.setSending(false)
  await recordOf('passkey_added', id)
  t.deepEqual(await rowsOf(), [])
  await server.storage.mail.setSending(true)
})

test.serial('sends after a restart what was queued before it', async (t) => {
  await server.close()
  const mail = invitation()
  await outbox().queue(mail, known)
  opened.use(await startSecondNode(server, shared))
  t.is(linkOf(await smtp.mailTo(mail.to)), mail.link)
})
