import { randomUUID } from 'node:crypto'
import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { createAccountLinks } from '../../src/accounts/account-links.ts'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { type CanonicalEmail, normalizeEmail } from '../../src/accounts/email.ts'
import { linkAddress } from '../../src/http/routes.ts'
import { cheapCost } from '../support/accounts.ts'
import {
  type CreationOptions,
  createAuthenticator,
  passkeyOptions,
} from '../support/authenticator.ts'
import { allow, signInAt } from '../support/device.ts'
import { begin, signIn } from '../support/journey.ts'
import { query } from '../support/query.ts'
import { password, startTestServer, type TestServer } from '../support/server.ts'
import { linkOf, type SmtpReceiver, startSmtp } from '../support/smtp.ts'
import { until } from '../support/until.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

const callback = 'https://rp.example/callback'
const newPassword = 'a fresh secret of mine'
const opened = new AsyncDisposableStack()
let smtp: SmtpReceiver
let server: TestServer
let client: ClientMetadata

test.before(async () => {
  smtp = opened.use(await startSmtp())
  server = opened.use(
    await startTestServer({
      HOLDFAST_SMTP_URL: `smtp://127.0.0.1:${smtp.port}`,
      HOLDFAST_MAIL_FROM: 'no-reply@example.com',
      HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
    }),
  )
  client = await server.addClient({ application_type: 'web', redirect_uris: [callback] })
})
test.after.always(() => opened.disposeAsync())

const request = () => ({ client_id: client.client_id, redirect_uri: callback, scope: 'openid' })
const stranger = () => createUserAgent(server.issuer)
const newAddress = () => normalizeEmail(`${randomUUID()}@example.com`)
const tables = () => ({ table: server.storage.accountLinks, store: server.storage.accounts })
const links = () => createAccountLinks({ ...tables(), address: linkAddress(server.issuer) })
const queued = (lane = '%') =>
  query(server.databaseUrl, 'select * from mail_deliveries where lane like $1', [lane])
const settled = () => until(async () => (await queued()).length === 0)

async function person(given: { password?: string } = { password }) {
  const email = newAddress()
  const accounts = createAccounts({ store: server.storage.accounts, cost: cheapCost })
  const { id } = await accounts.add({ email, ...given })
  return { id, email, password }
}

/** Their browser, which has allowed the application to act for them. */
async function browserOf(as: { email: string; password: string }): Promise<UserAgent> {
  const { device, consent } = await signInAt(server, request(), { as })
  await allow(consent)
  return device.agent
}

const signsIn = async (typed: { email: string; password: string }) =>
  (await signIn(await begin({ origin: server.issuer }, request()), typed)).status === 303

async function ask(email: string, headers: Record<string, string> = {}) {
  const body = new URLSearchParams({ email })
  const answer = await fetch(`${server.issuer}/forgotten`, { method: 'POST', headers, body })
  return { status: answer.status, text: await answer.text() }
}

test('mails a link to someone who cannot sign in, which works once and ends every sign-in', async (t) => {
  const { id, email } = await person()
  const agent = await browserOf({ email, password })
  const login = await begin({ origin: server.issuer }, request())
  t.regex(login.page.text, /<a href="\/forgotten">Cannot sign in\?<\/a>/)
  t.regex((await stranger().get(`${server.issuer}/forgotten`)).text, /<form method="post"/)
  const asked = await ask(email.toUpperCase())
  t.is(asked.status, 200)
  t.regex(asked.text, /Look at your mail/)
  const mail = await smtp.mailTo(email)
  const link = linkOf(mail)
  t.true(link.startsWith(linkAddress(server.issuer)))
  t.true(await signsIn({ email, password }), 'nothing has changed until it is used')
  const profile = `${server.issuer}/security/profile`
  t.is((await agent.get(profile)).status, 200)
  const set = () => stranger().post(`${link}/password`, { password: newPassword })
  const done = await Promise.all(Array.from({ length: 8 }, set))
  t.is(done.filter(({ status }) => status === 200).length, 1)
  t.is(done.filter(({ status }) => status === 404).length, 7)
  t.is((await agent.get(profile)).status, 303, 'all sign-ins have ended')
  t.false(await signsIn({ email, password }))
  t.true(await signsIn({ email, password: newPassword }))
  t.true((await server.storage.accounts.findById(id))?.emailVerified)
  t.regex((await smtp.mailTo(email, 1)).text, /Your password was changed, and every sign-in ended/)
  t.false(server.logged.some((line) => line.includes(link.split('/').at(-1) ?? '')))
})

test('answers and does the same for an address without an account', async (t) => {
  const { email } = await person()
  const other = newAddress()
  const [one, two] = [await ask(email), await ask(other)]
  const page = ({ text }: { text: string }, address: string) => text.replace(address, 'ADDRESS')
  t.deepEqual([one.status, page(one, email)], [two.status, page(two, other)])
  await smtp.mailTo(email)
  await settled()
  t.is(smtp.countOf(other), 0)
})

test('mails nothing for an account that is disabled', async (t) => {
  const { id, email } = await person()
  await server.storage.accounts.setDisabled(id, true)
  t.is((await ask(email)).status, 200)
  await settled()
  t.is(smtp.countOf(email), 0)
})

test('a flood mails one person three links an hour, all of which work', async (t) => {
  const { email } = await person()
  const { invite } = links()
  const invitation = await invite(email)
  for (let each = 0; each < 6; each += 1) t.is((await ask(email)).status, 200)
  await smtp.mailTo(email, 2)
  await settled()
  t.is(smtp.countOf(email), 3)
  const mailed = smtp.received.filter(({ to }) => to.includes(email)).map(linkOf)
  t.is(new Set(mailed).size, 3)
  for (const link of [...mailed, invitation.link]) t.is((await fetch(link)).status, 200)
  // The first one works after the flood, and the others end with it.
  const [first, ...others] = mailed
  t.is((await stranger().post(`${first}/password`, { password: newPassword })).status, 200)
  for (const link of others) t.is((await fetch(link)).status, 404)
})

test('uses one of several links of an account that are used at once', async (t) => {
  const { email } = await person()
  const made = await Promise.all(
    Array.from({ length: 3 }, () => links().recover(email as CanonicalEmail)),
  )
  const done = await Promise.all(
    made.map((each) => stranger().post(`${each?.link}/password`, { password: newPassword })),
  )
  t.deepEqual(done.map(({ status }) => status).sort(), [200, 404, 404])
})

test('gives no way around a code app: a mailed link sets a password, and no passkey', async (t) => {
  const { id, email } = await person()
  await query(
    server.databaseUrl,
    `insert into code_apps (account_id, sealed, last_step) values ($1, 'sealed', 0)`,
    [id],
  )
  const mailed = await links().recover(email as CanonicalEmail)
  const page = (await stranger().get(`${mailed?.link}`)).text
  t.notRegex(page, /data-passkey-creation/)
  t.regex(page, /new-password/)
  const credential = '{}'
  t.is((await stranger().post(`${mailed?.link}/passkey`, { credential })).status, 400)
  // One that an operator has made and sent does.
  const { link } = await links().invite(email)
  t.regex((await stranger().get(link)).text, /data-passkey-creation/)
})

test('adds a passkey by a mailed link, and verifies the address with it', async (t) => {
  const { id, email } = await person({})
  const made = await links().recover(email as CanonicalEmail)
  const authenticator = createAuthenticator(server.issuer)
  const options = passkeyOptions<CreationOptions>((await stranger().get(`${made?.link}`)).text)
  const credential = authenticator.create(options)
  const added = await stranger().post(`${made?.link}/passkey`, { credential, name: 'Phone' })
  t.is(added.status, 200)
  t.is((await server.storage.passkeys.listOf(id)).length, 1)
  t.true((await server.storage.accounts.findById(id))?.emailVerified)
  t.is((await fetch(`${made?.link}`)).status, 404)
})

test('rejects what is no address, and a form of another site', async (t) => {
  const odd = await ask('nobody')
  t.is(odd.status, 400)
  t.regex(odd.text, /role="alert">Enter an email address/)
  const { status } = await ask('ada@example.com', { 'sec-fetch-site': 'cross-site' })
  t.is(status, 403)
})

// Alone: it fills the queue.
test.serial('answers 503 while too many mails wait, for whatever address', async (t) => {
  await query(
    server.databaseUrl,
    `insert into mail_deliveries (lane, origin, sealed, due_at, expires_at)
     select 'flood ' || each, 'stranger', 'x', now() + interval '1 hour', now() + interval '1 hour'
       from generate_series(1, 1000) as each`,
  )
  const { email } = await person()
  for (const address of [email, newAddress()]) t.is((await ask(address)).status, 503)
  await query(server.databaseUrl, `delete from mail_deliveries where lane like 'flood %'`)
})

test('limits the requests of one network', async (t) => {
  const answers = []
  for (let each = 0; each < 31; each += 1) {
    answers.push(await ask(newAddress(), { 'x-forwarded-for': '198.51.100.7' }))
  }
  const last = answers.at(-1)
  t.is(last?.status, 429)
  t.regex(last?.text ?? '', /Your network has asked for too many links/)
  const limited = `select from counted_events where event = 'rate.limited' and reason = 'forgotten'`
  await until(async () => (await query(server.databaseUrl, limited)).length > 0)
})
