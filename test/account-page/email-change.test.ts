import { randomUUID } from 'node:crypto'
import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { createAccountLinks } from '../../src/accounts/account-links.ts'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { type CanonicalEmail, normalizeEmail } from '../../src/accounts/email.ts'
import { emailChangeAddress, linkAddress } from '../../src/http/routes.ts'
import { cheapCost } from '../support/accounts.ts'
import { allow, signInAt } from '../support/device.ts'
import { begin, signIn } from '../support/journey.ts'
import { query } from '../support/query.ts'
import { password, startTestServer, type TestServer } from '../support/server.ts'
import { linkOf, type ReceivedMail, type SmtpReceiver, startSmtp } from '../support/smtp.ts'
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
      HOLDFAST_ACCOUNT_SELF_SERVICE: 'email',
      HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
    }),
  )
  client = await server.addClient({ application_type: 'web', redirect_uris: [callback] })
})
test.after.always(() => opened.disposeAsync())

const request = () => ({ client_id: client.client_id, redirect_uri: callback, scope: 'openid' })
const stranger = () => createUserAgent(server.issuer)
const newAddress = () => normalizeEmail(`${randomUUID()}@example.com`)
const tokenOf = (text: string) => /name="token" value="([^"]+)"/.exec(text)?.[1] ?? ''
const pageOf = (path: string) => `${server.issuer}/security${path}`
const accountsOf = ({ storage }: TestServer) =>
  createAccounts({ store: storage.accounts, cost: cheapCost })
const settled = () =>
  until(async () => (await query(server.databaseUrl, 'select from mail_deliveries')).length === 0)

async function person() {
  const email = newAddress()
  const { id } = await accountsOf(server).add({ email, password })
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

const accountOf = (id: string) => server.storage.accounts.findById(id)

async function ask(
  agent: UserAgent,
  email: string,
  fields: Record<string, string> = { password },
  headers = {},
) {
  const token = tokenOf((await agent.get(pageOf('/profile/email'))).text)
  return agent.post(pageOf('/profile/email'), { token, new_email: email, ...fields }, headers)
}

/** Someone who has asked for another email, and the link that came to it. */
async function asked(email: string = newAddress()) {
  const who = await person()
  const agent = await browserOf(who)
  const answer = await ask(agent, email)
  const link = linkOf(await smtp.mailTo(email))
  return { ...who, agent, answer, link, present: who.email, email }
}

const confirm = (link: string) => stranger().post(link, {})

const audited = (event: string, account: string) =>
  until(async () => {
    const text = 'select from audit_events where event = $1 and account = $2'
    return (await query(server.databaseUrl, text, [event, account])).length > 0
  })

test('changes the email by a link to the new address, and tells the previous one', async (t) => {
  const { id, present, email, agent, answer, link } = await asked()
  t.is(answer.status, 200)
  t.regex(answer.text, /Look at your mail/)
  t.regex((await smtp.mailTo(present)).text, /A change of your email was asked for/)
  t.true(link.startsWith(emailChangeAddress(server.issuer)))
  t.like(await accountOf(id), { email: present })
  // Opening it uses nothing up: programs preview links.
  for (const method of ['GET', 'HEAD', 'GET']) t.is((await fetch(link, { method })).status, 200)
  t.like(await accountOf(id), { email: present })
  const elsewhere = stranger()
  const page = (await elsewhere.get(link)).text
  t.true(page.includes(present) && page.includes(email))
  const done = await elsewhere.post(link, {})
  t.is(done.status, 200)
  t.regex(done.text, /Your email was changed/)
  t.is((await elsewhere.get(pageOf('/profile'))).status, 303, 'nobody is signed in by it')
  t.like(await accountOf(id), { email, emailVerified: true })
  t.false(await signsIn({ email: present, password }))
  t.true(await signsIn({ email, password }))
  t.is((await agent.get(pageOf('/profile'))).status, 200, 'sessions stay')
  t.regex((await agent.get(pageOf('/activity'))).text, /The email of your account was changed/)
  const told = await smtp.mailTo(present, 1)
  t.regex(told.text, /The email of your account was changed/)
  t.regex(told.text, /Ask your operator at once/)
  await audited('email.change_requested', id)
  await audited('email.changed', id)
  const token = link.split('/').at(-1) ?? ''
  t.is(token.length, 43)
  t.false(server.logged.some((line) => line.includes(token) || line.includes(email)))
})

test('asks for no change without a fresh authentication', async (t) => {
  const who = await person()
  const agent = await browserOf(who)
  const email = newAddress()
  t.is((await ask(agent, email, {})).status, 400)
  t.is((await ask(agent, email, { password: 'another password' })).status, 401)
  t.is((await stranger().post(pageOf('/profile/email'), { new_email: email })).status, 401)
  await settled()
  t.is(smtp.countOf(email), 0)
  t.deepEqual(
    await query(server.databaseUrl, 'select from email_changes where account_id = $1', [who.id]),
    [],
  )
})

test('keeps the canonical form of the new address, and a digest of the link', async (t) => {
  const name = randomUUID()
  const who = await person()
  const agent = await browserOf(who)
  const email = `${name}@xn--bcher-kva.example`
  t.is((await ask(agent, ` ${name.toUpperCase()}@BÜCHER.example`)).status, 200)
  const mail = () => smtp.received.find(({ raw }) => raw.includes(name))
  await until(async () => mail() !== undefined)
  const link = linkOf(mail() as ReceivedMail)
  const rows = await query(server.databaseUrl, 'select row_to_json(e)::text from email_changes e')
  t.false(JSON.stringify(rows).includes(link.split('/').at(-1) ?? ''))
  t.is((await confirm(link)).status, 200)
  t.like(await accountOf(who.id), { email })
})

test('rejects what is no address, and the one that the account has', async (t) => {
  const who = await person()
  const agent = await browserOf(who)
  const odd = await ask(agent, 'nobody')
  t.is(odd.status, 400)
  t.regex(odd.text, /role="alert">Enter an email address/)
  const same = await ask(agent, who.email.toUpperCase())
  t.is(same.status, 400)
  t.regex(same.text, /This is the email of your account already/)
})

test('answers alike for the address of another account, and mails no link to it', async (t) => {
  const [one, other] = [await person(), await person()]
  const agent = await browserOf(one)
  const free = newAddress()
  const page = ({ text }: { text: string }, address: string) => text.replaceAll(address, 'ADDRESS')
  const first = await ask(agent, free)
  const second = await ask(agent, other.email)
  t.deepEqual([second.status, page(second, other.email)], [first.status, page(first, free)])
  const mail = await smtp.mailTo(other.email)
  t.regex(mail.text, /That is the email of your account, so nothing was changed/)
  t.notRegex(mail.raw, /\/email\//)
})

test('changes nothing where another account has the address by then', async (t) => {
  const { id, present, email, link } = await asked()
  await accountsOf(server).add({ email })
  const late = await confirm(link)
  t.is(late.status, 409)
  t.regex(late.text, /Another account has this address/)
  const account = await accountOf(id)
  t.is(account?.email, present)
  t.is(account?.emailVerified, undefined)
})

test('uses a link once, of many uses at once', async (t) => {
  const { link } = await asked()
  const done = await Promise.all(Array.from({ length: 8 }, () => confirm(link)))
  t.deepEqual(done.map(({ status }) => status).sort(), [
    200,
    ...Array.from({ length: 7 }, () => 404),
  ])
  t.is((await stranger().get(link)).status, 404)
})

test('gives an address that two accounts ask for to one of them', async (t) => {
  const email = newAddress()
  const one = await asked(email)
  const other = await person()
  await ask(await browserOf(other), email)
  const links = [one.link, linkOf(await smtp.mailTo(email, 1))]
  const done = await Promise.all(links.map(confirm))
  t.deepEqual(done.map(({ status }) => status).sort(), [200, 409])
  const emails = [(await accountOf(one.id))?.email, (await accountOf(other.id))?.email]
  t.is(emails.filter((each) => each === email).length, 1)
})

test('replaces the link of an account by the next one', async (t) => {
  const { id, agent, link } = await asked()
  const email = newAddress()
  await ask(agent, email)
  const next = linkOf(await smtp.mailTo(email))
  t.is((await confirm(link)).status, 404)
  t.is((await confirm(next)).status, 200)
  t.like(await accountOf(id), { email })
})

test('ends the link with a changed password, ended sessions, and a disabled account', async (t) => {
  const ends: Record<string, (who: Awaited<ReturnType<typeof asked>>) => Promise<unknown>> = {
    'own password': async ({ agent }) => {
      const token = tokenOf((await agent.get(pageOf('/password'))).text)
      return agent.post(pageOf('/password'), { token, password, new_password: newPassword })
    },
    'other sessions': async ({ agent, present }) => {
      await browserOf({ email: present, password })
      const token = tokenOf((await agent.get(pageOf('/sessions'))).text)
      return agent.post(pageOf('/sessions/end-others'), { token })
    },
    'password of an operator': ({ present }) =>
      accountsOf(server).setPassword(present, newPassword),
    reset: ({ present }) =>
      createAccountLinks({
        table: server.storage.accountLinks,
        store: server.storage.accounts,
        address: linkAddress(server.issuer),
      }).reset(present, { passkeys: false, codeApp: false }),
    disabled: async ({ present }) => {
      await accountsOf(server).disable(present)
      await accountsOf(server).enable(present)
    },
    'another email by an operator': ({ present }) =>
      accountsOf(server).change(present, { email: newAddress() }),
  }
  for (const [what, end] of Object.entries(ends)) {
    const who = await asked()
    await end(who)
    t.is((await confirm(who.link)).status, 404, what)
    t.not((await accountOf(who.id))?.email, who.email, what)
  }
})

test('rejects a link that is too old, unknown, or of a disabled account', async (t) => {
  const { id, email, link } = await asked()
  await query(server.databaseUrl, 'update accounts set disabled_at = now() where id = $1', [id])
  t.is((await stranger().get(link)).status, 404)
  t.is((await confirm(link)).status, 404)
  await query(server.databaseUrl, 'update accounts set disabled_at = null where id = $1', [id])
  t.is((await stranger().get(link)).status, 200)
  await query(
    server.databaseUrl,
    'update email_changes set expires_at = now() where account_id = $1',
    [id],
  )
  const old = await stranger().get(link)
  t.is(old.status, 404)
  t.regex(old.text, /This link does not work any more/)
  t.is((await confirm(link)).status, 404)
  t.is((await confirm(emailChangeAddress(server.issuer) + 'A'.repeat(43))).status, 404)
  const table = server.storage.emailChanges
  const by = { accountId: id, sessionUid: undefined, address: undefined, userAgent: undefined }
  await table.make(by, { digest: Buffer.from('too old'), email, lifetimeS: -1 })
  t.is(await table.confirm(Buffer.from('too old'), by), undefined)
  const foreign = { 'sec-fetch-site': 'cross-site' }
  t.is((await stranger().post(link, {}, foreign)).status, 403)
})

test('ends the links that were mailed to the previous address', async (t) => {
  const { id, present, link } = await asked()
  const links = createAccountLinks({
    table: server.storage.accountLinks,
    store: server.storage.accounts,
    address: linkAddress(server.issuer),
  })
  const made = [await links.recover(present as CanonicalEmail), await links.invite(present)]
  for (const each of made) t.is((await fetch(`${each?.link}`)).status, 200)
  t.is((await confirm(link)).status, 200)
  for (const each of made) t.is((await fetch(`${each?.link}`)).status, 404)
  t.is(
    (await query(server.databaseUrl, 'select from recovery_links where account_id = $1', [id]))
      .length,
    0,
  )
})

test('limits the links of one account, of one address and of one network', async (t) => {
  const who = await person()
  const agent = await browserOf(who)
  for (let each = 0; each < 5; each += 1) t.is((await ask(agent, newAddress())).status, 200)
  const last = await ask(agent, newAddress())
  t.is(last.status, 429)
  t.true(Number(last.headers.get('retry-after')) > 0)
  t.regex(last.text, /Too many links were sent/)
  const email = newAddress()
  const browsers = await Promise.all([0, 1].map(async () => browserOf(await person())))
  const statuses = []
  for (const each of [...browsers, ...browsers]) statuses.push((await ask(each, email)).status)
  t.deepEqual(statuses, [200, 200, 200, 429])
  await settled()
  t.is(smtp.countOf(email), 3)
  const limited = `select from counted_events where event = 'rate.limited' and reason = 'email_change'`
  await until(async () => (await query(server.databaseUrl, limited)).length > 0)
  const far = { 'x-forwarded-for': '198.51.100.7' }
  const others = await Promise.all(Array.from({ length: 7 }, async () => browserOf(await person())))
  const ofNetwork = []
  for (let each = 0; each < 31; each += 1) {
    const agent = others[each % 7] as UserAgent
    ofNetwork.push((await ask(agent, newAddress(), { password }, far)).status)
  }
  t.deepEqual(ofNetwork, [...Array.from({ length: 30 }, () => 200), 429])
})

test('tells the previous address of the change of an operator, which is not verified', async (t) => {
  const who = await person()
  await accountsOf(server).change(who.email, { emailVerified: true })
  const taken = await person()
  const email = newAddress()
  const changed = await accountsOf(server).change(who.email, { email: ` ${email.toUpperCase()}` })
  t.is(changed.email, email)
  t.is(changed.emailVerified, undefined)
  t.regex((await smtp.mailTo(who.email)).text, /The email of your account was changed/)
  t.is(smtp.countOf(email), 0)
  await t.throwsAsync(accountsOf(server).change(email, { email: taken.email }), {
    name: 'AccountError',
    code: 'email_taken',
  })
  const same = await accountsOf(server).change(email, { email, emailVerified: true, name: 'Ada' })
  t.like(same, { email, emailVerified: true, name: 'Ada' })
  t.like(await accountsOf(server).change(email, { email }), { emailVerified: true })
  await settled()
  t.is(smtp.countOf(email), 0, 'nothing has changed')
})

test('without mail, says that an administrator changes it', async (t) => {
  const quiet = await startTestServer({ HOLDFAST_ACCOUNT_SELF_SERVICE: 'email' })
  t.teardown(() => quiet[Symbol.asyncDispose]())
  const app = await quiet.addClient({ application_type: 'web', redirect_uris: [callback] })
  const { device, consent } = await signInAt(quiet, { ...request(), client_id: app.client_id })
  await allow(consent)
  const profile = await device.agent.get(`${quiet.issuer}/security/profile`)
  t.regex(profile.text, /href="\/security\/profile\/email"/)
  const page = await device.agent.get(`${quiet.issuer}/security/profile/email`)
  t.is(page.status, 200)
  t.regex(page.text, /Ask your administrator to change it/)
  t.notRegex(page.text, /<form/)
  const name = await device.agent.get(`${quiet.issuer}/security/password`)
  const posted = await device.agent.post(`${quiet.issuer}/security/profile/email`, {
    ...{ token: tokenOf(name.text), password },
    new_email: newAddress(),
  })
  t.is(posted.status, 400)
  t.is((await fetch(`${quiet.issuer}/email/${'A'.repeat(43)}`)).status, 404)
})
