import { randomUUID } from 'node:crypto'
import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { signUpNetworkLimits, signUpTotalLimit } from '../../src/account-page/sign-up-router.ts'
import { linkDigest } from '../../src/accounts/account-links.ts'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { makePrintedCode, printedCodeDigest } from '../../src/accounts/one-time-codes.ts'
import { linkAddress, signUpAddress } from '../../src/http/routes.ts'
import { mostWaiting } from '../../src/storage/mail-table.ts'
import type { NewInvitation } from '../../src/storage/sign-up-table.ts'
import { cheapCost } from '../support/accounts.ts'
import {
  type CreationOptions,
  createAuthenticator,
  passkeyOptions,
} from '../support/authenticator.ts'
import { createStatementCounter } from '../support/counting.ts'
import { allow } from '../support/device.ts'
import { begin, interact, signIn } from '../support/journey.ts'
import { query } from '../support/query.ts'
import { startTestServer, type TestServer } from '../support/server.ts'
import { linkOf, type SmtpReceiver, startSmtp } from '../support/smtp.ts'
import { until } from '../support/until.ts'
import { createUserAgent, type Page, type UserAgent } from '../support/user-agent.ts'

const callback = 'https://rp.example/callback'
const password = 'a fresh secret of mine'
const opened = new AsyncDisposableStack()
const counter = createStatementCounter()
let smtp: SmtpReceiver
let environment: Record<string, string>
/** Takes addresses at two domains. */
let server: TestServer
/** Takes people with a code. */
let inviting: TestServer

test.before(async () => {
  smtp = opened.use(await startSmtp())
  environment = {
    HOLDFAST_SMTP_URL: `smtp://127.0.0.1:${smtp.port}`,
    HOLDFAST_MAIL_FROM: 'no-reply@example.com',
    HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
  }
  const domains = { ...environment, HOLDFAST_SIGN_UP: 'domains:Example.com, bücher.example' }
  server = opened.use(await startTestServer(domains, { wrap: counter.wrap }))
  inviting = opened.use(await startTestServer({ ...environment, HOLDFAST_SIGN_UP: 'invitation' }))
})
test.after.always(() => opened.disposeAsync())

const newAddress = (domain = 'example.com') => `${randomUUID()}@${domain}`
const accountsOf = ({ storage }: TestServer) =>
  createAccounts({ store: storage.accounts, cost: cheapCost })
const accountOf = async (email: string, at = server) =>
  (await at.storage.accounts.findByEmail(email))?.account
const stranger = (at = server) => createUserAgent(at.issuer)

let networks = 0

/** From a network of its own, unless the headers say otherwise. */
function ask(
  fields: Record<string, string>,
  { at = server, agent = stranger(at), headers = {} }: Asking = {},
): Promise<Page> {
  networks += 1
  const own = { 'x-forwarded-for': `10.${networks >> 8}.${networks & 255}.1` }
  return agent.post(`${at.issuer}/sign-up`, fields, { ...own, ...headers })
}

interface Asking {
  at?: TestServer
  agent?: UserAgent
  headers?: Record<string, string>
}

/** The link that comes to someone who asks. */
async function asked(fields: Record<string, string>, asking: Asking = {}) {
  const email = fields.email ?? ''
  const before = smtp.countOf(email)
  const answer = await ask(fields, asking)
  const link = linkOf(await smtp.mailTo(email, before))
  return { email, answer, link }
}

const confirm = (link: string, fields: Record<string, string> = {}, at = server) =>
  stranger(at).post(link, fields)

const settled = (at = server) =>
  until(async () => (await query(at.databaseUrl, 'select from mail_deliveries')).length === 0)

const request = ({ client_id }: ClientMetadata) => ({
  ...{ client_id, redirect_uri: callback, scope: 'openid' },
})

const audited = (event: string, account: string, at = server) =>
  until(async () => {
    const text = 'select from audit_events where event = $1 and account = $2'
    return (await query(at.databaseUrl, text, [event, account])).length > 0
  })

test('makes an account by a mailed link, and leads back to the app in the same browser', async (t) => {
  const client = await server.addClient({ application_type: 'web', redirect_uris: [callback] })
  const email = newAddress()
  const login = await begin({ origin: server.issuer }, request(client))
  const { agent } = login
  const [, path = ''] = /<a href="(\/sign-up[^"]+)">Create an account</.exec(login.page.text) ?? []
  const page = await agent.get(server.issuer + path)
  t.regex(page.text, /at one of these domains: example\.com, xn--bcher-kva\.example/)
  const [, interaction = ''] = /name="interaction" value="([^"]+)"/.exec(page.text) ?? []
  const { answer, link } = await asked({ email, interaction }, { agent })
  t.is(answer.status, 200)
  t.regex(answer.text, /Look at your mail/)
  t.true(link.startsWith(signUpAddress(server.issuer)))
  for (const method of ['GET', 'HEAD', 'GET']) t.is((await fetch(link, { method })).status, 200)
  t.is(await accountOf(email), undefined, 'nothing is made before the address is confirmed')
  const made = await agent.post(link, { name: ' Ada L. ' })
  t.is(made.status, 303)
  const account = await accountOf(email)
  t.like(account, { email, name: 'Ada L.', emailVerified: true })
  await audited('account.signed_up', String(account?.id))
  const set = new URL(made.location ?? '', server.issuer).href
  t.true(set.startsWith(linkAddress(server.issuer)))
  t.regex((await agent.get(set)).text, /Choose how you sign in/)
  const done = await agent.post(`${set}/password`, { password })
  t.is(done.status, 200)
  const [, back = ''] = /<a href="(\/interaction\/[^"]+)">Sign in</.exec(done.text) ?? []
  t.is(server.issuer + back, login.url)
  t.notRegex(done.text, /http-equiv="refresh"/)
  const again = await agent.get(login.url)
  t.is(again.status, 200)
  const [, token = ''] = /name="token" value="([^"]+)"/.exec(again.text) ?? []
  const posted = await signIn({ ...login, token, page: again }, { email, password })
  const consent = await interact(agent, await agent.get(posted.location ?? ''))
  t.true((await allow(consent)).searchParams.has('code'))
  for (const secret of [link, set]) {
    t.false(server.logged.some((line) => line.includes(secret.split('/').at(-1) ?? '')))
  }
})

test('leads another browser to the account page, and to no address that was planted', async (t) => {
  const { link } = await asked({ email: newAddress(), interaction: 'a-name-of-one' })
  const { location = '' } = await confirm(link)
  const set = new URL(location, server.issuer).href
  const options = passkeyOptions<CreationOptions>((await stranger().get(set)).text)
  const credential = createAuthenticator(server.issuer).create(options)
  const done = await stranger().post(`${set}/passkey`, { credential, name: 'Phone' })
  t.is(done.status, 200)
  t.regex(done.text, /<a href="\/security">Sign in</)
  for (const interaction of ['//evil.example', '../evil', 'x', '"><b>']) {
    const answer = await ask({ email: newAddress(), interaction })
    t.is(answer.headers.get('set-cookie'), null)
    t.notRegex(answer.text, /<b>/)
  }
})

test('takes the addresses of its domains alone, in their canonical form', async (t) => {
  const name = randomUUID()
  const domains = ['sub.example.com', 'example.com.evil.example', 'notexample.com', 'example.org']
  for (const domain of [...domains, 'example.com.', 'xn--bcher-kva.example.com']) {
    const answer = await ask({ email: `${name}@${domain}` })
    t.is(answer.status, 400, domain)
    t.regex(answer.text, /An address of this domain cannot have an account here/)
  }
  t.is((await ask({ email: 'nobody' })).status, 400)
  t.is((await ask({ email: ` ${name.toUpperCase()}@BÜCHER.example` })).status, 200)
  const mail = () => smtp.received.find(({ raw }) => raw.includes(name))
  await until(async () => mail() !== undefined)
  const link = /^https?:\/\/\S+$/m.exec(mail()?.text ?? '')?.[0] ?? ''
  t.is((await confirm(link)).status, 303)
  t.truthy(await accountOf(`${name}@xn--bcher-kva.example`))
  await settled()
  t.is(smtp.received.filter(({ raw }) => raw.includes(name)).length, 1)
})

test('answers alike for an address that has an account, and mails no link to it', async (t) => {
  const [email, free] = [newAddress(), newAddress()]
  await accountsOf(server).add({ email })
  const page = ({ text }: Page, address: string) => text.replaceAll(address, 'ADDRESS')
  const [one, two] = [await ask({ email: email.toUpperCase() }), await ask({ email: free })]
  t.deepEqual([one.status, page(one, email)], [two.status, page(two, free)])
  const mail = await smtp.mailTo(email)
  t.regex(mail.text, /You have one already/)
  t.false(mail.raw.includes('/sign-up/'))
  await smtp.mailTo(free)
  t.deepEqual(await query(server.databaseUrl, 'select from sign_ups where email = $1', [email]), [])
})

test('keeps a digest of each link, and makes one account by many uses at once', async (t) => {
  const { email, link } = await asked({ email: newAddress() })
  const rows = await query(server.databaseUrl, 'select row_to_json(s)::text from sign_ups s')
  t.false(JSON.stringify(rows).includes(link.split('/').at(-1) ?? ''))
  const done = await Promise.all(Array.from({ length: 8 }, () => confirm(link)))
  t.deepEqual(done.map(({ status }) => status).sort(), [
    303,
    ...Array.from({ length: 7 }, () => 404),
  ])
  t.truthy(await accountOf(email))
})

test('makes one account by several links for one address', async (t) => {
  const email = newAddress()
  const links = [(await asked({ email })).link, (await asked({ email })).link]
  const done = await Promise.all(links.map((link) => confirm(link)))
  t.deepEqual(done.map(({ status }) => status).sort(), [303, 409])
  t.regex(done.find(({ status }) => status === 409)?.text ?? '', /You have an account already/)
})

test('changes nothing of an account that was made meanwhile', async (t) => {
  const { email, link } = await asked({ email: newAddress() })
  const { id } = await accountsOf(server).add({ email, name: 'Ada' })
  t.is((await confirm(link, { name: 'Eve' })).status, 409)
  const account = await accountOf(email)
  t.like(account, { id, name: 'Ada' })
  t.is(account?.emailVerified, undefined)
  t.deepEqual(
    await query(server.databaseUrl, 'select from account_links where account_id = $1', [id]),
    [],
  )
})

test('rejects a sign-up link that is too old or unknown, and forms of another site', async (t) => {
  const { email, link } = await asked({ email: newAddress() })
  const foreign = { 'sec-fetch-site': 'cross-site' }
  t.is((await stranger().post(link, {}, foreign)).status, 403)
  t.is((await ask({ email: newAddress() }, { headers: foreign })).status, 403)
  const odd = await confirm(link, { name: '\u200b' })
  t.is(odd.status, 400)
  t.regex(odd.text, /Enter a name of 1 to 200/)
  await query(server.databaseUrl, 'update sign_ups set expires_at = now() where email = $1', [
    email,
  ])
  for (const old of [link, signUpAddress(server.issuer) + 'A'.repeat(43)]) {
    t.is((await stranger().get(old)).status, 404)
    t.is((await confirm(old)).status, 404)
  }
  const { signUps } = server.storage
  await signUps.make(Buffer.from('too old'), { email, invitation: null }, -1)
  const made = { account: { id: randomUUID() }, passwordHash: '' }
  const link2 = { digest: Buffer.from('link'), lifetimeS: 60 }
  t.is(await signUps.complete(Buffer.from('too old'), { ...made, link: link2 }), undefined)
  t.is(await accountOf(email), undefined)
})

test('a flood mails one address three links an hour, all of which work', async (t) => {
  const email = newAddress()
  for (let each = 0; each < 6; each += 1) t.is((await ask({ email })).status, 200)
  await smtp.mailTo(email, 2)
  await settled()
  t.is(smtp.countOf(email), 3)
  const links = smtp.received.filter(({ to }) => to.includes(email)).map(linkOf)
  for (const link of links) t.is((await fetch(link)).status, 200)
  const [first = ''] = links
  t.is((await confirm(first)).status, 303)
})

// Alone: statements are counted.
test.serial('reads and writes nothing for what one network asks beyond its limit', async (t) => {
  const headers = { 'x-forwarded-for': '198.51.100.7' }
  const { perNetwork = 0 } = signUpNetworkLimits
  for (let each = 0; each < perNetwork; each += 1) {
    const email = `flood${each % 3}@example.com`
    t.is((await ask({ email }, { headers })).status, 200)
  }
  t.is((await ask({ email: newAddress() }, { headers })).status, 429)
  await settled()
  counter.names.length = 0
  for (let each = 0; each < 20; each += 1) {
    const answer = await ask({ email: newAddress() }, { headers })
    t.is(answer.status, 429)
    t.true(Number(answer.headers.get('retry-after')) > 0)
  }
  t.deepEqual(counter.names, [])
  t.is((await ask({ email: newAddress() })).status, 200, 'other networks are not kept out')
})

// Alone: it fills the queue.
test.serial('answers 503 while too many sign-ups wait, and sends other mail', async (t) => {
  const { sign_up: most } = mostWaiting
  await query(
    server.databaseUrl,
    `insert into mail_deliveries (lane, origin, sealed, due_at, expires_at)
     select 'flood ' || each, 'sign_up', 'x', now() + interval '1 hour', now() + interval '1 hour'
       from generate_series(1, $1::int) as each`,
    [most],
  )
  const known = newAddress()
  await accountsOf(server).add({ email: known })
  for (const email of [known, newAddress()]) t.is((await ask({ email })).status, 503)
  t.is((await stranger().post(`${server.issuer}/forgotten`, { email: known })).status, 200)
  t.regex((await smtp.mailTo(known)).subject, /again/)
  await query(server.databaseUrl, `delete from mail_deliveries where lane like 'flood %'`)
})

const codes = (changes: Partial<NewInvitation> = {}) => {
  const code = makePrintedCode()
  const digest = printedCodeDigest(code) as Buffer
  const about = { name: 'Course', groups: ['students'], uses: 1, lifetimeS: 3600, ...changes }
  return { code, make: () => inviting.storage.signUps.insertInvitation(digest, about) }
}

async function invitation(changes: Partial<NewInvitation> = {}) {
  const { code, make } = codes(changes)
  const { id } = await make()
  const usesLeft = async () =>
    (await inviting.storage.signUps.listInvitations()).find((each) => each.id === id)?.usesLeft
  return { code, id, usesLeft }
}

const at = () => ({ at: inviting })

test('makes an account in the groups of an invitation, and counts a use with it', async (t) => {
  const { code, id, usesLeft } = await invitation({ uses: 2 })
  const page = await stranger(inviting).get(`${inviting.issuer}/sign-up?code=${code}`)
  t.true(page.text.includes(`value="${code}"`))
  const typed = ` ${code.toUpperCase().replaceAll('-', ' ')}`
  const { email, link } = await asked({ email: newAddress('any.example'), code: typed }, at())
  t.is(await usesLeft(), 2, 'a use is counted as the account is made')
  t.is((await confirm(link, {}, inviting)).status, 303)
  t.is(await usesLeft(), 1)
  const account = await accountOf(email, inviting)
  t.like(account, { groups: ['students'], emailVerified: true })
  await audited('account.signed_up', String(account?.id), inviting)
  const [event] = await query(
    inviting.databaseUrl,
    `select details from audit_events where event = 'account.signed_up' and account = $1`,
    [account?.id],
  )
  t.deepEqual(event?.details, { invitation: id })
  const rows = await query(inviting.databaseUrl, 'select row_to_json(i)::text from invitations i')
  t.false(JSON.stringify(rows).includes(code.replaceAll('-', '')))
})

test('gives the last use of an invitation to one of several people at once', async (t) => {
  const { code, usesLeft } = await invitation()
  const people = await Promise.all(
    Array.from({ length: 4 }, () => asked({ email: newAddress(), code }, at())),
  )
  const done = await Promise.all(people.map(({ link }) => confirm(link, {}, inviting)))
  t.deepEqual(done.map(({ status }) => status).sort(), [303, 409, 409, 409])
  t.regex(done.find(({ status }) => status === 409)?.text ?? '', /This invitation is used up/)
  t.is(await usesLeft(), 0)
  const made = await Promise.all(people.map(({ email }) => accountOf(email, inviting)))
  t.is(made.filter(Boolean).length, 1)
  t.is((await ask({ email: newAddress(), code }, at())).status, 400)
})

test('counts no use for someone who has an account', async (t) => {
  const { code, usesLeft } = await invitation()
  const email = newAddress()
  const links = [
    (await asked({ email, code }, at())).link,
    (await asked({ email, code }, at())).link,
  ]
  await accountsOf(inviting).add({ email })
  for (const link of links) t.is((await confirm(link, {}, inviting)).status, 409)
  t.is(await usesLeft(), 1)
  const other = await invitation({ uses: 2 })
  const twice = newAddress()
  const both = [
    (await asked({ email: twice, code: other.code }, at())).link,
    (await asked({ email: twice, code: other.code }, at())).link,
  ]
  await Promise.all(both.map((link) => confirm(link, {}, inviting)))
  t.is(await other.usesLeft(), 1)
})

test('rejects codes that are wrong, too old or revoked, and the links that came of them', async (t) => {
  const { code, id } = await invitation()
  const old = await invitation({ lifetimeS: 0 })
  const { link } = await asked({ email: newAddress(), code }, at())
  t.is(await inviting.storage.signUps.removeInvitation(id), 'Course')
  for (const wrong of ['', 'x', makePrintedCode(), old.code, code, id]) {
    const answer = await ask({ email: newAddress(), code: wrong }, at())
    t.is(answer.status, 400, wrong)
    t.regex(answer.text, /This invitation does not work/)
  }
  t.is((await stranger(inviting).get(link)).status, 404)
  t.is((await confirm(link, {}, inviting)).status, 404)
  const late = await invitation()
  const asking = await asked({ email: newAddress(), code: late.code }, at())
  await query(
    inviting.databaseUrl,
    `update invitations set expires_at = now() where digest = decode($1, 'hex')`,
    [late.id],
  )
  t.is((await confirm(asking.link, {}, inviting)).status, 409)
  t.is(await accountOf(asking.email, inviting), undefined)
})

test('keeps nobody out by wrong codes for their address', async (t) => {
  const { code } = await invitation()
  const email = newAddress()
  for (let each = 0; each < 10; each += 1) await ask({ email, code: makePrintedCode() }, at())
  t.is(smtp.countOf(email), 0)
  const { link } = await asked({ email, code }, at())
  t.is((await confirm(link, {}, inviting)).status, 303)
})

test('takes no link of an earlier policy', async (t) => {
  const token = randomUUID()
  await inviting.storage.signUps.make(
    linkDigest(token),
    { email: newAddress(), invitation: null },
    3600,
  )
  t.is((await stranger(inviting).get(signUpAddress(inviting.issuer) + token)).status, 404)
  t.is((await confirm(signUpAddress(inviting.issuer) + token, {}, inviting)).status, 404)
})

test('mails a thousand people an hour at most who want an account', async (t) => {
  const busy = await startTestServer({ ...environment, HOLDFAST_SIGN_UP: 'domains:example.com' })
  t.teardown(() => busy[Symbol.asyncDispose]())
  await busy.storage.rateLimits.makeLimiter(signUpTotalLimit).take('')
  t.is((await ask({ email: newAddress() }, { at: busy })).status, 200)
  await query(
    busy.databaseUrl,
    `update rate_limits set points = $1 where key like 'sign-up-total%'`,
    [signUpTotalLimit.points],
  )
  t.is((await ask({ email: newAddress() }, { at: busy })).status, 503)
  const known = newAddress()
  await accountsOf(busy).add({ email: known, password })
  t.is((await stranger(busy).post(`${busy.issuer}/forgotten`, { email: known })).status, 200)
  t.regex((await smtp.mailTo(known)).subject, /again/)
})

test('offers no sign-up where it is closed', async (t) => {
  const closed = await startTestServer()
  t.teardown(() => closed[Symbol.asyncDispose]())
  const client = await closed.addClient({ application_type: 'web', redirect_uris: [callback] })
  const login = await begin({ origin: closed.issuer }, request(client))
  t.notRegex(login.page.text, /sign-up/)
  t.is((await stranger(closed).get(`${closed.issuer}/sign-up`)).status, 404)
  t.is(
    (await stranger(closed).post(`${closed.issuer}/sign-up`, { email: newAddress() })).status,
    404,
  )
  t.is((await stranger(closed).post(signUpAddress(closed.issuer) + 'A'.repeat(43), {})).status, 404)
})
