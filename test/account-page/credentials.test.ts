import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { Secret, TOTP } from 'otpauth'
import { createAccountLinks, type MadeLink } from '../../src/accounts/account-links.ts'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { passwordAndCodeAcr } from '../../src/accounts/acr.ts'
import { linkAddress, publicRoutes } from '../../src/http/routes.ts'
import { cheapCost } from '../support/accounts.ts'
import {
  addPasskey,
  type CreationOptions,
  createAuthenticator,
  type PasskeyRequestOptions,
  passkeyOptions,
} from '../support/authenticator.ts'
import { allow, signInAt } from '../support/device.ts'
import { authorizationUrl, begin, interact, signIn } from '../support/journey.ts'
import { query } from '../support/query.ts'
import {
  email,
  password,
  startTestServer,
  type TestServer,
  useTestServer,
} from '../support/server.ts'
import { startSmtp } from '../support/smtp.ts'
import { until } from '../support/until.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

const smtp = await startSmtp()
test.after.always(() => smtp[Symbol.asyncDispose]())

const server = useTestServer(test, {
  HOLDFAST_ACCOUNT_SELF_SERVICE: 'name, email, locale, export, delete',
  HOLDFAST_SMTP_URL: `smtp://127.0.0.1:${smtp.port}`,
  HOLDFAST_MAIL_FROM: 'no-reply@example.com',
  HOLDFAST_GROUP_SIGN_IN: 'admins = passkey, staff = password-and-code',
})
const callback = 'https://rp.example/callback'
const newPassword = 'a fresh secret of mine'
let client: ClientMetadata

test.before(async () => {
  client = await server.addClient({ application_type: 'web', redirect_uris: [callback] })
})

const request = () => ({ client_id: client.client_id, redirect_uri: callback, scope: 'openid' })
const tokenOf = (text: string) => /name="token" value="([^"]+)"/.exec(text)?.[1] ?? ''
const pageOf = (path: string) => `${server.issuer}/security${path}`

const linksOf = ({ storage, issuer }: TestServer) =>
  createAccountLinks({
    table: storage.accountLinks,
    store: storage.accounts,
    address: linkAddress(issuer),
  })

let people = 0

/** A person with an account of their own, who signs in by `password`, or in whom nobody signs in. */
async function person(given: { password?: string } = { password }) {
  people += 1
  const address = `person-${people}@example.com`
  const accounts = createAccounts({ store: server.storage.accounts, cost: cheapCost })
  const { id } = await accounts.add({ email: address, ...given })
  return { id, email: address, invite: () => linksOf(server).invite(address) }
}

/** Their browser, which has allowed the application to act for them. */
async function browserOf(as: { email: string; password: string }): Promise<UserAgent> {
  const { device, consent } = await signInAt(server, request(), { as })
  await allow(consent)
  return device.agent
}

const signsIn = async (typed: { email: string; password: string }) =>
  (await signIn(await begin({ origin: server.issuer }, request()), typed)).status === 303

const stranger = () => createUserAgent(server.issuer)
const set = ({ link }: MadeLink, typed: string, agent = stranger()) =>
  agent.post(`${link}/password`, { password: typed })

const audited = (event: string, account: string) =>
  until(async () => {
    const text = 'select from audit_events where event = $1 and account = $2'
    return (await query(server.databaseUrl, text, [event, account])).length > 0
  })

test('sets a password by a link, once, without a script', async (t) => {
  const { id, email, invite } = await person({})
  t.false(await signsIn({ email, password: newPassword }))
  const made = await invite()
  t.true(made.expiresAt.getTime() <= Date.now() + 72 * 3600_000)
  const page = await stranger().get(made.link)
  t.is(page.status, 200)
  t.regex(page.text, new RegExp(email))
  t.regex(page.text, /<form method="post" action="\/link\/[\w-]+\/password">/)
  const done = await Promise.all(Array.from({ length: 8 }, () => set(made, newPassword)))
  t.is(done.filter(({ status }) => status === 200).length, 1)
  t.is(done.filter(({ status }) => status === 404).length, 7)
  t.is((await stranger().get(made.link)).status, 404)
  t.true(await signsIn({ email, password: newPassword }))
  await audited('account_link.used', id)
})

test('uses no link up by opening it, and keeps only a digest', async (t) => {
  const { id, invite } = await person({})
  const made = await invite()
  const kept = () =>
    query(server.databaseUrl, 'select * from account_links where account_id = $1', [id])
  const before = await kept()
  for (const method of ['GET', 'HEAD', 'GET']) {
    t.is((await fetch(made.link, { method })).status, 200)
  }
  t.deepEqual(await kept(), before)
  const token = made.link.split('/').at(-1) ?? ''
  t.is(token.length, 43)
  t.false(server.logged.some((line) => line.includes(token)))
  t.false(JSON.stringify(before).includes(token))
  t.is((await set(made, newPassword)).status, 200)
})

test('adds a passkey by a link, once', async (t) => {
  const { email, id, invite } = await person()
  const agent = await browserOf({ email, password })
  const made = await invite()
  const authenticators = Array.from({ length: 4 }, () => createAuthenticator(server.issuer))
  const options = passkeyOptions<CreationOptions>((await stranger().get(made.link)).text)
  const done = await Promise.all(
    authenticators.map((each) =>
      stranger().post(`${made.link}/passkey`, { credential: each.create(options), name: 'Phone' }),
    ),
  )
  t.is(done.filter(({ status }) => status === 200).length, 1)
  const own = await server.storage.passkeys.listOf(id)
  t.deepEqual(
    own.map(({ name }) => name),
    ['Phone'],
  )
  t.is((await stranger().get(made.link)).status, 404)
  t.is((await agent.get(pageOf('/sign-in'))).status, 303, 'all sign-ins have ended')
  const grants = `select from artifacts where kind = 'Grant' and payload->>'accountId' = $1`
  t.deepEqual(await query(server.databaseUrl, grants, [id]), [])
  const login = await begin({ origin: server.issuer }, request())
  const asked = passkeyOptions<PasskeyRequestOptions>(login.page.text)
  const shown = await Promise.all(
    authenticators.map((each) => {
      const { token } = login
      return login.agent.post(`${login.url}/passkey`, { token, credential: each.get(asked) })
    }),
  )
  t.is(shown.filter(({ status }) => status === 303).length, 1)
})

test('uses no link that becomes too old or whose account is disabled meanwhile', async (t) => {
  const { accountLinks, accounts } = server.storage
  const by = { address: undefined, userAgent: undefined }
  const uses = (digest: string) => accountLinks.setPassword(Buffer.from(digest), 'hash', by)
  const { id, email } = await person({})
  await accountLinks.make(id, Buffer.from('too old'), -1)
  t.false(await uses('too old'))
  await accountLinks.recover(email, Buffer.from('mailed, too old'), -1)
  t.false(await uses('mailed, too old'))
  await accountLinks.make(id, Buffer.from('in time'), 60)
  await accounts.setDisabled(id, true)
  t.false(await uses('in time'))
  await accounts.setDisabled(id, false)
  t.true(await uses('in time'))
})

test('rejects links that are too old, replaced, unknown or of a disabled account', async (t) => {
  const { id, email, invite } = await person({})
  const replaced = await invite()
  const made = await invite()
  const unknown = { ...made, link: `${server.issuer}/link/${'A'.repeat(43)}` }
  const old = await person({})
  const tooOld = await old.invite()
  // For good: the server removes it at any moment.
  await query(
    server.databaseUrl,
    'update account_links set expires_at = now() where account_id = $1',
    [old.id],
  )
  const refuses = async (link: MadeLink) => {
    const page = await stranger().get(link.link)
    t.is(page.status, 404)
    t.regex(page.text, /This link does not work any more/)
    t.is((await set(link, newPassword)).status, 404)
    t.is((await stranger().post(`${link.link}/passkey`, { credential: '' })).status, 404)
  }
  await refuses(replaced)
  await refuses(unknown)
  await refuses(tooOld)
  await server.storage.accounts.setDisabled(id, true)
  await refuses(made)
  await server.storage.accounts.setDisabled(id, false)
  const foreign = { 'sec-fetch-site': 'cross-site' }
  const posted = await stranger().post(`${made.link}/password`, { password: newPassword }, foreign)
  t.is(posted.status, 403)
  t.is((await set(made, newPassword)).status, 200)
  t.true(await signsIn({ email, password: newPassword }))
})

test('rejects a passkey that was made for another link', async (t) => {
  const [mine, other] = [await (await person({})).invite(), await (await person({})).invite()]
  const options = passkeyOptions<CreationOptions>((await stranger().get(other.link)).text)
  const credential = createAuthenticator(server.issuer).create(options)
  t.is((await stranger().post(`${mine.link}/passkey`, { credential })).status, 400)
  t.is((await stranger().get(mine.link)).status, 200)
})

/** By what the page says of them. */
const weak: Record<string, RegExp> = {
  'only 14 chars.': /too short/,
  passwordpassword1: /first that an attacker would try/,
  '123456789012345': /first that an attacker would try/,
  qwertyuiopasdfgh: /first that an attacker would try/,
  aaaaaaaaaaaaaaaaaaaaaaaa: /first that an attacker would try/,
  holdfastholdfast: /first that an attacker would try/,
  ['long '.repeat(205)]: /too long/,
}

test('rejects passwords that are short or that a guesser tries first, and keeps the link', async (t) => {
  const { email, invite } = await person({})
  const made = await invite()
  for (const [typed, problem] of Object.entries({ ...weak, [email]: /first that an attacker/ })) {
    const answer = await set(made, typed)
    t.is(answer.status, 400, typed)
    t.regex(answer.text, problem)
  }
  t.is((await set(made, ` ${newPassword} `)).status, 200)
  t.true(await signsIn({ email, password: ` ${newPassword} ` }))
})

test('looks at twenty new passwords of a link in a while', async (t) => {
  const made = await (await person({})).invite()
  for (let count = 0; count < 20; count += 1) t.is((await set(made, 'short')).status, 400)
  const limited = await set(made, newPassword)
  t.is(limited.status, 429)
  t.true(Number(limited.headers.get('retry-after')) > 0)
})

test('a reset ends the password, sessions and grants, and passkeys if asked', async (t) => {
  const { id, email } = await person()
  const agent = await browserOf({ email, password })
  await addPasskeyOf(agent)
  const first = await linksOf(server).reset(email, { passkeys: false, codeApp: false })
  t.like(first, { ended: 1, revoked: 1 })
  t.false(await signsIn({ email, password }))
  t.is((await agent.get(pageOf('/sign-in'))).status, 303)
  t.is((await server.storage.passkeys.listOf(id)).length, 1)
  const second = await linksOf(server).reset(email, { passkeys: true, codeApp: true })
  t.like(second, { ended: 0, revoked: 0 })
  t.deepEqual(await server.storage.passkeys.listOf(id), [])
  t.is((await set(second, newPassword)).status, 200)
  t.true(await signsIn({ email, password: newPassword }))
})

const addPasskeyOf = async (agent: UserAgent, authenticator = createAuthenticator(server.issuer)) =>
  t201(await addPasskey(server.issuer, agent, authenticator), authenticator)

function t201<T>({ status }: { status: number }, value: T): T {
  if (status !== 303) throw new Error(`the passkey was not added: ${status}`)
  return value
}

const change = (agent: UserAgent, token: string, fields: Record<string, string>) =>
  agent.post(pageOf('/password'), { token, new_password: newPassword, ...fields })

test('changes the password with the present one, and ends other sign-ins', async (t) => {
  const { id, email } = await person()
  const [agent, other] = [
    await browserOf({ email, password }),
    await browserOf({ email, password }),
  ]
  t.regex((await agent.get(pageOf('/sign-in'))).text, /Change your password/)
  const page = await agent.get(pageOf('/password'))
  t.regex(page.text, /autocomplete="new-password" minlength="15"/)
  const token = tokenOf(page.text)
  t.is((await change(agent, token, { password: 'another password' })).status, 401)
  t.is((await change(agent, token, { password, new_password: 'short' })).status, 400)
  t.true(await signsIn({ email, password }))
  t.is((await change(agent, token, { password })).status, 303)
  t.is((await agent.get(pageOf('/sign-in'))).status, 200)
  t.is((await other.get(pageOf('/sign-in'))).status, 303)
  t.false(await signsIn({ email, password }))
  t.true(await signsIn({ email, password: newPassword }))
  t.regex(
    (await agent.get(pageOf('/activity'))).text,
    /You changed your password, and your other sign-ins/,
  )
  await audited('password.changed', id)
})

test('changes no password of an account that is disabled meanwhile', async (t) => {
  const { id } = await person()
  await query(server.databaseUrl, 'update accounts set disabled_at = now() where id = $1', [id])
  const by = { accountId: id, sessionUid: undefined, address: undefined, userAgent: undefined }
  t.false(await server.storage.accounts.changeOwnPassword('x', by))
})

test('sets a password with a passkey where there was no password', async (t) => {
  const { id, email } = await person()
  const agent = await browserOf({ email, password })
  const authenticator = await addPasskeyOf(agent)
  await query(
    server.databaseUrl,
    `update accounts set password_hash =
       regexp_replace(password_hash, '[^$]+(\\$[^$]+)$', 'bm8gcGFzc3dvcmQgc2V0IQ\\1') where id = $1`,
    [id],
  )
  const page = await agent.get(pageOf('/password'))
  t.regex((await agent.get(pageOf('/sign-in'))).text, /You have no password/)
  t.notRegex(page.text, /current-password/)
  const credential = authenticator.get(passkeyOptions<PasskeyRequestOptions>(page.text))
  t.is((await change(agent, tokenOf(page.text), { credential })).status, 303)
  t.true(await signsIn({ email, password: newPassword }))
})

/** The code of a secret, so many steps from now. */
const codeOf = (secret: string, steps = 0) =>
  new TOTP({ secret: Secret.fromBase32(secret) }).generate({
    timestamp: Date.now() + steps * 30_000,
  })

/** Sets up a code app with the code of the step before this one. */
async function setUpCodeApp(agent: UserAgent) {
  const asked = await agent.get(pageOf('/code-app'))
  const made = await agent.post(pageOf('/code-app'), { token: tokenOf(asked.text), password })
  const field = (name: string) => new RegExp(`name="${name}" value="([^"]+)"`).exec(made.text)?.[1]
  const [secret = '', proof = ''] = [field('secret'), field('proof')]
  const token = tokenOf(made.text)
  const confirm = (code: string, fields = {}) =>
    agent.post(pageOf('/code-app/confirm'), { token, secret, proof, code, ...fields })
  return { secret, proof, made, confirm }
}

async function withCodeApp() {
  const who = await person()
  const agent = await browserOf({ email: who.email, password })
  const { secret, confirm } = await setUpCodeApp(agent)
  const done = await confirm(codeOf(secret, -1))
  const codes = [...done.text.matchAll(/<code>([\da-z-]{27})<\/code>/g)].map(
    ([, code = '']) => code,
  )
  return { ...who, agent, secret, codes }
}

/** Up to the page that asks for a code. */
async function typePassword(as: { email: string; password: string }, more = {}) {
  const login = await begin({ origin: server.issuer }, { ...request(), ...more })
  const page = await signIn(login, as)
  const field = (name: string) => new RegExp(`name="${name}" value="([^"]+)"`).exec(page.text)?.[1]
  const proven = {
    token: tokenOf(page.text),
    account: field('account') ?? '',
    proof: field('proof') ?? '',
  }
  const type = (code: string, fields = {}) =>
    login.agent.post(`${login.url}/code`, { ...proven, code, ...fields })
  return { login, page, type }
}

test('sets up a code app, and asks for its code after the password', async (t) => {
  const { email, agent, secret, codes } = await withCodeApp()
  t.is(codes.length, 10)
  t.regex((await agent.get(pageOf('/sign-in'))).text, /You have 10 recovery codes left/)
  const kept = await query(server.databaseUrl, 'select sealed from code_apps')
  t.false(JSON.stringify(kept).includes(secret))
  const { login, page, type } = await typePassword({ email, password })
  t.is(page.status, 200)
  t.regex(page.text, /Enter your code/)
  t.is((await type(codeOf(secret, -1))).status, 401, 'it was used to set up the app')
  t.is((await type(codeOf(secret, 5))).status, 401)
  t.is((await type('')).status, 400)
  const right = codeOf(secret)
  const answers = await Promise.all(Array.from({ length: 4 }, () => type(right)))
  t.is(answers.filter(({ status }) => status === 303).length, 1)
  const posted = answers.find(({ status }) => status === 303)
  const consent = await interact(login.agent, await login.agent.get(posted?.location ?? ''))
  const done = await login.agent.post(`${consent.url}/confirm`, { token: consent.token })
  const { location = '' } = await login.agent.follow(done)
  const code = new URL(location).searchParams.get('code') ?? ''
  const stored = await server.provider.AuthorizationCode.find(code)
  t.deepEqual(stored?.amr, ['pwd', 'otp', 'mfa'])
})

test('takes each recovery code once', async (t) => {
  const { email, codes, agent } = await withCodeApp()
  const [first = ''] = codes
  const { type } = await typePassword({ email, password })
  const answers = await Promise.all(Array.from({ length: 4 }, () => type(first.toUpperCase())))
  t.is(answers.filter(({ status }) => status === 303).length, 1)
  t.regex((await agent.get(pageOf('/sign-in'))).text, /You have 9 recovery codes left/)
  t.regex((await agent.get(pageOf('/activity'))).text, /A recovery code of your account was used/)
})

test('rejects a code page of another interaction or account', async (t) => {
  const [one, other] = [await withCodeApp(), await withCodeApp()]
  const mine = await typePassword({ email: one.email, password })
  const theirs = await typePassword({ email: other.email, password })
  const code = codeOf(other.secret)
  t.is((await mine.type(code, { account: other.id })).status, 400)
  t.is((await theirs.type(code, { proof: '' })).status, 400)
  t.is((await theirs.type(code)).status, 303)
})

test('looks at five codes of an account and network in a while', async (t) => {
  const { email, secret, agent } = await withCodeApp()
  const { type } = await typePassword({ email, password })
  for (let count = 0; count < 5; count += 1) t.is((await type('000000')).status, 401)
  t.is((await type(codeOf(secret))).status, 429)
  t.regex((await agent.get(pageOf('/activity'))).text, /A wrong code was typed after your password/)
  const again = await typePassword({ email, password })
  t.is((await again.type(codeOf(secret))).status, 429)
})

test('rejects a code app without a page for it, and a page that was used', async (t) => {
  const { email, id } = await person()
  const agent = await browserOf({ email, password })
  const { secret, confirm } = await setUpCodeApp(agent)
  const mine = new Secret().base32
  t.is((await confirm(codeOf(mine), { secret: mine })).status, 400)
  t.is((await confirm(codeOf(secret, 5))).status, 400)
  const other = await setUpCodeApp(await browserOf({ email, password }))
  const ofOther = { secret: other.secret, proof: other.proof }
  t.is((await confirm(codeOf(other.secret), ofOther)).status, 400, 'the page of another session')
  const answers = await Promise.all([confirm(codeOf(secret)), confirm(codeOf(secret))])
  t.deepEqual(answers.map(({ status }) => status).sort(), [200, 400])
  await audited('code_app.set_up', id)
})

test('asks for a code at each change, once there is a code app', async (t) => {
  const { email, agent, secret, codes } = await withCodeApp()
  const token = tokenOf((await agent.get(pageOf('/password'))).text)
  t.is((await change(agent, token, { password })).status, 400)
  t.is((await change(agent, token, { password, code: '000000' })).status, 401)
  t.is((await change(agent, token, { password, code: codeOf(secret) })).status, 303)
  const replaced = await agent.post(pageOf('/recovery-codes'), {
    ...{ token, password: newPassword },
    code: codes[0] ?? '',
  })
  t.is(replaced.status, 200)
  const [, fresh = ''] = /<code>([\da-z-]{27})<\/code>/.exec(replaced.text) ?? []
  const { type } = await typePassword({ email, password: newPassword })
  t.is((await type(codes[1] ?? '')).status, 401)
  const remove = { token, password: newPassword, code: fresh }
  t.is((await agent.post(pageOf('/code-app/remove'), remove)).status, 303)
  t.true(await signsIn({ email, password: newPassword }))
})

test('ends other sign-ins when a code app is set up, and when it is removed', async (t) => {
  const { email } = await person()
  const agent = await browserOf({ email, password })
  const other = await browserOf({ email, password })
  const isSignedIn = async (each: UserAgent) => (await each.get(pageOf('/profile'))).status === 200
  const { secret, confirm } = await setUpCodeApp(agent)
  t.true(await isSignedIn(other))
  t.is((await confirm(codeOf(secret, -1))).status, 200)
  t.true(await isSignedIn(agent))
  t.false(await isSignedIn(other))
  const { login, type } = await typePassword({ email, password })
  await arriveAt(login.agent, (await type(codeOf(secret))).location)
  t.true(await isSignedIn(login.agent))
  const token = tokenOf((await agent.get(pageOf('/password'))).text)
  const fields = { token, password, code: codeOf(secret, 1) }
  t.is((await agent.post(pageOf('/code-app/remove'), fields)).status, 303)
  t.true(await isSignedIn(agent))
  t.false(await isSignedIn(login.agent))
})

test('takes no password alone where an application demands a code', async (t) => {
  const claims = { id_token: { acr: { essential: true, value: passwordAndCodeAcr } } }
  const demand = { claims: JSON.stringify(claims) }
  const without = await person()
  const refused = await typePassword({ email: without.email, password }, demand)
  t.is(refused.page.status, 401)
  t.regex(refused.page.text, /A password alone is not enough here/)
  const { email, secret } = await withCodeApp()
  const { type } = await typePassword({ email, password }, demand)
  t.is((await type(codeOf(secret))).status, 303)
})

/** From a sign-in over consent to the application. */
const arriveAt = async (agent: UserAgent, location = '') =>
  allow(await interact(agent, await agent.get(location)))

test('takes no password of a group that needs a passkey, but for the first passkey', async (t) => {
  const { id, email } = await person()
  const earlier = await browserOf({ email, password })
  const asked = { ...request(), prompt: 'none' }
  t.regex((await earlier.get(authorizationUrl(server.issuer, asked))).location ?? '', /[?&]code=/)
  await server.storage.accounts.change(id, { groups: ['admins'] })
  const silent = await earlier.get(authorizationUrl(server.issuer, asked))
  t.regex(silent.location ?? '', /error=login_required/, 'an earlier session is not enough')
  const login = await begin({ origin: server.issuer }, request())
  const refused = await signIn(login, { email, password })
  t.is(refused.status, 401)
  t.regex(refused.text, /A password is not enough here\. Use a passkey/)
  const authenticator = await addPasskeyOf(earlier)
  const page = await earlier.get(pageOf('/password'))
  t.notRegex(page.text, /current-password/, 'nor for a change')
  const [own] = await server.storage.passkeys.listOf(id)
  const remove = pageOf(`/passkeys/${own?.id}/remove`)
  const removing = await earlier.get(remove)
  const last = await earlier.post(remove, {
    token: tokenOf(removing.text),
    credential: authenticator.get(passkeyOptions<PasskeyRequestOptions>(removing.text)),
  })
  t.regex(last.text, /This is your only passkey/)
  const security = createUserAgent(server.issuer)
  const { location = '' } = await security.get(pageOf('/sign-in'))
  const again = await interact(security, await security.get(location))
  t.is((await signIn(again, { email, password })).status, 401)
  const shown = await begin({ origin: server.issuer }, request())
  const credential = authenticator.get(passkeyOptions<PasskeyRequestOptions>(shown.page.text))
  const posted = await shown.agent.post(`${shown.url}/passkey`, { token: shown.token, credential })
  t.is(posted.status, 303)
  t.true((await arriveAt(shown.agent, posted.location)).searchParams.has('code'))
})

test('takes no password alone of a group that needs a code', async (t) => {
  const without = await person()
  await server.storage.accounts.change(without.id, { groups: ['others', 'staff'] })
  const { page } = await typePassword({ email: without.email, password })
  t.is(page.status, 401)
  t.regex(page.text, /A password alone is not enough here/)
  const { id, email, secret } = await withCodeApp()
  await server.storage.accounts.change(id, { groups: ['staff'] })
  const { login, type } = await typePassword({ email, password })
  const posted = await type(codeOf(secret))
  t.is(posted.status, 303)
  t.true((await arriveAt(login.agent, posted.location)).searchParams.has('code'))
})

test('with a second factor required, a password alone leads to My security only', async (t) => {
  const strict = await startTestServer({ HOLDFAST_SIGN_IN: 'password+second-factor' })
  t.teardown(() => strict[Symbol.asyncDispose]())
  const app = await strict.addClient({ application_type: 'web', redirect_uris: [callback] })
  const login = await begin({ origin: strict.issuer }, { ...request(), client_id: app.client_id })
  const refused = await signIn(login, { email, password })
  t.is(refused.status, 401)
  t.regex(refused.text, /set up a code app at My security/)
  const agent = createUserAgent(strict.issuer)
  const { location = '' } = await agent.get(`${strict.issuer}/security/sign-in`)
  const security = await interact(agent, await agent.get(location))
  t.is((await signIn(security, { email, password })).status, 303)
  t.is((await agent.get(`${strict.issuer}/security/code-app/remove`)).status, 400)
})

test('changes the name and the language, as far as the operator allows it', async (t) => {
  const { id, email } = await person()
  const agent = await browserOf({ email, password })
  t.regex((await agent.get(pageOf('/profile'))).text, /href="\/security\/profile\/locale"/)
  const token = tokenOf((await agent.get(pageOf('/profile/name'))).text)
  const set = (member: string, value: string, typed = password) =>
    agent.post(pageOf(`/profile/${member}`), { token, [member]: value, password: typed })
  t.is((await set('name', 'Ada L.', '')).status, 400)
  t.is((await set('name', 'Ada L.', 'another password')).status, 401)
  for (const [member, value, problem] of [
    ['name', '\u200b', /Enter a name/],
    ['locale', 'no language', /Enter a language tag/],
  ] as const) {
    const refused = await set(member, value)
    t.is(refused.status, 400)
    t.regex(refused.text, problem)
  }
  t.is((await set('name', ' Ada L. ')).status, 303)
  t.is((await set('locale', 'de-de')).status, 303)
  t.like(await server.storage.accounts.findById(id), { name: 'Ada L.', locale: 'de-DE' })
  t.regex((await agent.get(pageOf('/activity'))).text, /You changed your profile/)
  await audited('profile.changed', id)
})

test('downloads what is kept of a person, without a secret', async (t) => {
  const { id, email } = await person()
  const agent = await browserOf({ email, password })
  await addPasskeyOf(agent)
  const token = tokenOf((await agent.get(pageOf('/data/export'))).text)
  t.is((await agent.post(pageOf('/data/export'), { token })).status, 400)
  const file = await agent.post(pageOf('/data/export'), { token, password })
  t.is(file.headers.get('content-disposition'), 'attachment; filename="account.json"')
  t.is(file.headers.get('cache-control'), 'no-store')
  const data = JSON.parse(file.text)
  t.like(data, { account: { id, email }, passkeys: [{ name: 'Laptop' }] })
  t.is(data.sessions.length, 1)
  t.is(data.applications[0].clientId, client.client_id)
  t.true(data.events.some(({ kind }: { kind: string }) => kind === 'signed_in'))
  t.notRegex(file.text, /argon2|publicKey|sealed|"uid"|"jwk"/)
  await audited('account.exported', id)
})

test('deletes an account by its owner, who types its address, and everything with it', async (t) => {
  const { id, email } = await person()
  const agent = await browserOf({ email, password })
  const other = await browserOf({ email, password })
  await addPasskeyOf(agent)
  const token = tokenOf((await agent.get(pageOf('/data/delete'))).text)
  const remove = (fields: Record<string, string>) =>
    agent.post(pageOf('/data/delete'), { token, ...fields })
  t.is((await remove({ email })).status, 400)
  t.is((await remove({ email, password: 'another password' })).status, 401)
  const mistyped = await remove({ email: 'someone@example.com', password })
  t.is(mistyped.status, 400)
  t.regex(mistyped.text, /not the email address of your account/)
  t.truthy(await server.storage.accounts.findById(id))
  const done = await remove({ email: ` ${email.toUpperCase()} `, password })
  t.is(done.status, 200)
  t.regex(done.text, /Your account was deleted/)
  t.regex(done.text, /signalAllAcceptedCredentials&quot;.+allAcceptedCredentialIds&quot;:\[\]/)
  t.is(await server.storage.accounts.findById(id), undefined)
  t.deepEqual(await server.storage.passkeys.listOf(id), [])
  t.deepEqual(await server.storage.browserSessions.listOf(id), [])
  t.deepEqual(await server.storage.artifacts.listGrantsOf(id), [])
  for (const each of [agent, other]) t.is((await each.get(pageOf('/profile'))).status, 303)
  t.false(await signsIn({ email, password }))
  await audited('account.deleted_by_owner', id)
})

/** Forms of My security that end something, which the person of any session may do. */
const ending = [
  'security_end_session',
  'security_end_others',
  'security_end_application',
  'security_end_installation',
]

test('changes no credential from a stolen session, by no route', async (t) => {
  const { id, email } = await person()
  const agent = await browserOf({ email, password })
  await addPasskeyOf(agent)
  const { secret, confirm } = await setUpCodeApp(agent)
  t.is((await confirm(codeOf(secret, -1))).status, 200)
  const [own] = await server.storage.passkeys.listOf(id)
  const kept = async () =>
    query(
      server.databaseUrl,
      `select password_hash, accounts.email, (select json_agg(passkeys) from passkeys
                where account_id = accounts.id) as passkeys,
              (select json_agg(code_apps) from code_apps where account_id = accounts.id) as apps,
              (select json_agg(recovery_codes) from recovery_codes
                where account_id = accounts.id) as codes,
              (select json_agg(account_links) from account_links where account_id = accounts.id) as links,
              (select json_agg(email_changes) from email_changes where account_id = accounts.id) as emails,
              accounts.name, accounts.profile
         from accounts where accounts.id = $1`,
      [id],
    )
  const before = await kept()
  const thief = agent.copy()
  const token = tokenOf((await thief.get(pageOf('/password'))).text)
  const typed = {
    ...{ token, name: 'Mine', new_password: newPassword, id: String(own?.id) },
    new_email: 'thief@example.com',
  }
  const routes = Object.entries(publicRoutes).filter(
    ([name, route]) =>
      /^\/security\b|\/:token\b/.test(route.path) &&
      route.methods.includes('POST') &&
      !ending.includes(name) &&
      !name.startsWith('approvals_'),
  )
  t.true(routes.length >= 17)
  for (const { path, methods } of Object.values(publicRoutes)) {
    if (!path.startsWith('/security') || !methods.includes('GET')) continue
    const { text } = await thief.get(server.issuer + path.replace(':id', String(own?.id)))
    t.notRegex(text, /data-passkey-creation|name="secret"/, path)
  }
  for (const [name, { path, form }] of routes) {
    t.true(form, name)
    const url = server.issuer + path.replace(':id', String(own?.id)).replace(':token', token)
    for (const fields of [
      {},
      { password: newPassword },
      { credential: '{}' },
      { code: '000000' },
    ]) {
      const { status, text } = await thief.post(url, { ...typed, ...fields })
      t.true([400, 401, 404].includes(status), `${name} ${status}`)
      t.notRegex(text, /data-passkey-creation/)
    }
  }
  t.deepEqual(await kept(), before)
})

test('with the policy passkey, no password can be set', async (t) => {
  const strict = await startTestServer({ HOLDFAST_SIGN_IN: 'passkey' })
  t.teardown(() => strict[Symbol.asyncDispose]())
  const { link } = await linksOf(strict).invite(email)
  const agent = createUserAgent(strict.issuer)
  const page = await agent.get(link)
  t.notRegex(page.text, /new-password/)
  t.is((await agent.post(`${link}/password`, { password: newPassword })).status, 400)
  t.is((await agent.get(`${strict.issuer}/security/password`)).status, 400)
  // Nor a code app, nor anything that the operator has not allowed.
  const forbidden = [
    'profile/name',
    'profile/email',
    'profile/locale',
    'data/export',
    'data/delete',
  ]
  for (const path of ['code-app', ...forbidden]) {
    t.is((await agent.get(`${strict.issuer}/security/${path}`)).status, 400, path)
  }
  const options = passkeyOptions<CreationOptions>(page.text)
  const credential = createAuthenticator(strict.issuer).create(options)
  t.is((await agent.post(`${link}/passkey`, { credential })).status, 200)
})
