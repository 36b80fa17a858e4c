import { generateKeyPairSync } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { passkeyAcr } from '../../src/accounts/acr.ts'
import * as x509 from '../../src/certificates/x509.ts'
import { createPasskeyForms } from '../../src/http/passkey-form.ts'
import { createNetworkLimit } from '../../src/limits/network-limit.ts'
import { freePort } from '../../src/net/free-port.ts'
import {
  addPasskey,
  beginCreation,
  type Ceremony,
  createAuthenticator,
  type PasskeyRequestOptions,
  passkeyOptions,
} from '../support/authenticator.ts'
import { createAuthority } from '../support/certificates.ts'
import { createStatementCounter } from '../support/counting.ts'
import { allow, signInAt } from '../support/device.ts'
import { useFolder } from '../support/folder.ts'
import { begin, type Interacting, interact, signIn } from '../support/journey.ts'
import { query } from '../support/query.ts'
import { email, password, startTestServer, useTestServer } from '../support/server.ts'
import { until } from '../support/until.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

const counter = createStatementCounter()
const folder = useFolder(test)
const server = useTestServer(test, {}, { wrap: counter.wrap })
const callback = 'https://rp.example/callback'
let client: ClientMetadata

test.before(async () => {
  client = await server.addClient({ application_type: 'web', redirect_uris: [callback] })
})

const request = () => ({ client_id: client.client_id, redirect_uri: callback, scope: 'openid' })
const tokenOf = (text: string) => /name="token" value="([^"]+)"/.exec(text)?.[1] ?? ''
const pageOf = (path: string) => `${server.issuer}/security${path}`

/** The browser of a person who has signed in by a password. */
async function signedIn(): Promise<UserAgent> {
  const person = await signInAt(server, request())
  await allow(person.consent)
  return person.device.agent
}

async function withPasskey(options: { counts?: boolean } = {}) {
  const agent = await signedIn()
  const authenticator = createAuthenticator(server.issuer, options)
  const added = await addPasskey(server.issuer, agent, authenticator)
  return { agent, authenticator, added }
}

const beginSignIn = (more: Record<string, string> = {}) =>
  begin({ origin: server.issuer }, { ...request(), ...more })
const optionsOf = ({ page }: Interacting) => passkeyOptions<PasskeyRequestOptions>(page.text)
const show = ({ agent, url, token }: Interacting, credential: string) =>
  agent.post(`${url}/passkey`, { token, credential })

const passkeysOf = async () =>
  server.storage.passkeys.listOf(
    (await server.storage.accounts.findByEmail(email))?.account.id ?? '',
  )

test.serial.afterEach(() => query(server.databaseUrl, 'delete from passkeys', []))

test.serial('adds a passkey at My security, and signs in with it', async (t) => {
  const { agent, authenticator, added } = await withPasskey()
  t.is(added.status, 303)
  const shown = (await agent.get(pageOf('/sign-in'))).text
  t.regex(shown, /Laptop/)
  t.regex(shown, /Not used yet/)
  t.regex(shown, /it can be copied to others/)
  t.regex((await agent.get(pageOf('/activity'))).text, /A passkey was added to your account/)

  const login = await beginSignIn()
  counter.names.length = 0
  const posted = await show(login, authenticator.get(optionsOf(login)))
  t.is(posted.status, 303)
  const consent = await interact(login.agent, await login.agent.get(posted.location ?? ''))
  t.is(consent.page.status, 200)
  const done = await login.agent.post(`${consent.url}/confirm`, { token: consent.token })
  const { location = '' } = await login.agent.follow(done)
  const code = await server.provider.AuthorizationCode.find(
    new URL(location).searchParams.get('code') ?? '',
  )
  t.deepEqual(code?.amr, ['pop', 'user', 'mfa'])
  t.regex((await login.agent.get(pageOf('/sessions'))).text, /Signed in with a passkey/)
  t.truthy((await passkeysOf())[0]?.lastUsedAt)
})

test.serial('takes five statements for a passkey sign-in with consent given', async (t) => {
  const { authenticator } = await withPasskey()
  const first = await beginSignIn()
  const consented = await show(first, authenticator.get(optionsOf(first)))
  const consent = await interact(first.agent, await first.agent.get(consented.location ?? ''))
  await first.agent.post(`${consent.url}/confirm`, { token: consent.token })
  const granted = { ...request(), prompt: 'login' }
  const login = await begin({ origin: server.issuer }, granted, first.agent)
  counter.names.length = 0
  const posted = await show(login, authenticator.get(optionsOf(login)))
  await login.agent.get(posted.location ?? '')
  t.deepEqual(counter.names, [
    'browser-request-find',
    'passkey-find',
    'passkey-use',
    'browser-request-find',
    'browser-request-commit',
  ])
})

test.serial('writes no row for a visitor who opens the sign-in page', async (t) => {
  counter.names.length = 0
  const login = await beginSignIn()
  t.truthy(optionsOf(login).challenge)
  t.deepEqual(
    counter.names.filter((name) => !name.startsWith('client')),
    [],
  )
})

/** What is wrong with an assertion, and the reason that the operator reads. */
const broken: Record<string, [Ceremony, string]> = {
  'of another origin': [{ origin: 'https://localhost.evil.example' }, 'response'],
  'for another RP ID': [{ rpId: 'evil.example' }, 'response'],
  'without user verification': [{ userVerified: false }, 'response'],
  'without user presence': [{ userPresent: false }, 'response'],
  'made in a frame of another site': [{ crossOrigin: true }, 'malformed'],
  'made below a page of another site': [{ topOrigin: 'https://evil.example' }, 'malformed'],
  'of another type': [{ type: 'webauthn.create' }, 'response'],
  'with another challenge': [{ challenge: 'AAAA' }, 'challenge'],
  'of an unknown credential': [{ credentialId: 'AAAA' }, 'unknown'],
  'with another user handle': [{ userHandle: 'AAAA' }, 'response'],
  'without a user handle': [{ userHandle: '' }, 'malformed'],
  'that became a single-device one': [{ backupEligible: false }, 'response'],
  'with a signature by another key': [
    { signBy: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey },
    'response',
  ],
}

/** Everything that differs between two sign-in pages for other reasons than what was posted. */
const withoutSecrets = (text: string) =>
  text.replace(/value="[^"]*"|data-passkey-request="[^"]*"|interaction\/[\w-]+/g, '')

async function isRefused(
  t: ExecutionContext,
  login: Interacting,
  credential: string,
  reason: string,
) {
  const before = server.logged.length
  const refused = await show(login, credential)
  t.is(refused.status, 401)
  t.regex(refused.text, /This passkey was not accepted/)
  t.true(server.logged.slice(before).some((line) => line.includes(`"passkey_${reason}"`)))
  return withoutSecrets(refused.text)
}

test.serial('rejects a passkey in one way, whatever is wrong with it', async (t) => {
  const { authenticator } = await withPasskey()
  const answers = new Set<string>()
  for (const [what, [ceremony, reason]] of Object.entries(broken)) {
    const login = await beginSignIn()
    const credential = authenticator.get(optionsOf(login), ceremony)
    const text = await isRefused(t, login, credential, reason)
    // A passkey that this server does not know is said to be unknown to the browser that has it.
    t.is(text.includes('signalUnknownCredential'), reason === 'unknown')
    answers.add(text.replace(/<div hidden data-passkey-signals=.*\n/, ''))
    t.log(what)
  }
  for (const text of ['', '{}', 'null', '[', '{"id":1}']) {
    const login = await beginSignIn()
    answers.add(await isRefused(t, login, text, 'malformed'))
  }
  t.is(answers.size, 1)
  t.is((await passkeysOf())[0]?.lastUsedAt, null)
})

test.serial('rejects a passkey of a disabled account', async (t) => {
  const { authenticator } = await withPasskey()
  await query(server.databaseUrl, 'update accounts set disabled_at = now()', [])
  const login = await beginSignIn()
  const credential = authenticator.get(optionsOf(login))
  const text = await isRefused(t, login, credential, 'gone')
  // It will work again: the browser must keep it.
  t.false(text.includes('data-passkey-signals'))
  await query(server.databaseUrl, 'update accounts set disabled_at = null', [])
})

test.serial('rejects an assertion for the page of another browser or tab', async (t) => {
  const { authenticator } = await withPasskey()
  const [mine, theirs] = [await beginSignIn(), await beginSignIn()]
  await isRefused(t, mine, authenticator.get(optionsOf(theirs)), 'challenge')
})

test.serial('accepts one of sixteen concurrent uses of one assertion', async (t) => {
  const { authenticator } = await withPasskey()
  const login = await beginSignIn()
  const kept = { ...login, agent: login.agent.copy() }
  const credential = authenticator.get(optionsOf(login))
  const answers = await Promise.all(Array.from({ length: 16 }, () => show(login, credential)))
  t.is(answers.filter(({ status }) => status === 303).length, 1)
  t.is(answers.filter(({ status }) => status === 401).length, 15)
  await query(server.databaseUrl, 'update passkeys set last_used_at = null', [])
  await isRefused(t, kept, credential, 'replayed')
  t.is((await passkeysOf())[0]?.lastUsedAt, null, 'nor does it count as a use')
  await isRefused(t, await beginSignIn(), credential, 'challenge')
})

test.serial('rejects a counter that does not rise, and reports it to both', async (t) => {
  const { authenticator } = await withPasskey({ counts: true })
  const first = await beginSignIn()
  const assertion = authenticator.get(optionsOf(first), { counter: 7 })
  t.is((await show(first, assertion)).status, 303)
  for (const clone of [7, 3, 0]) {
    const login = await beginSignIn()
    const refused = await show(login, authenticator.get(optionsOf(login), { counter: clone }))
    t.is(refused.status, 401)
    t.regex(refused.text, /This passkey was not accepted/)
  }
  const [row] = await query(
    server.databaseUrl,
    `select count(*)::int as told from security_events where kind = 'passkey_counter_refused'`,
    [],
  )
  t.is(row?.told, 3)
  t.true(server.logged.some((line) => line.includes('passkey.counter_refused')))
  const login = await beginSignIn()
  t.is((await show(login, authenticator.get(optionsOf(login), { counter: 8 }))).status, 303)
})

test.serial('rejects an attestation that is broken, or for another page', async (t) => {
  const agent = await signedIn()
  const other = await signedIn()
  const authenticator = createAuthenticator(server.issuer)
  const cases: Ceremony[] = [
    { origin: 'https://evil.example' },
    { rpId: 'evil.example' },
    { userVerified: false },
    { userPresent: false },
    { crossOrigin: true },
    { type: 'webauthn.get' },
    { challenge: 'AAAA' },
    { challenge: (await beginCreation(server.issuer, other)).options.challenge },
    { challenge: optionsOf(await beginSignIn()).challenge },
  ]
  for (const ceremony of cases) {
    const { token, options } = await beginCreation(server.issuer, agent)
    const credential = authenticator.create(options, ceremony)
    const refused = await agent.post(pageOf('/passkeys'), { token, credential, name: 'Laptop' })
    t.is(refused.status, 400)
    t.regex(refused.text, /The passkey was not added/)
  }
  t.deepEqual(await passkeysOf(), [])
})

test.serial('adds one passkey by any number of uses of one page', async (t) => {
  const agent = await signedIn()
  const { token, options } = await beginCreation(server.issuer, agent)
  const made = Array.from({ length: 8 }, () => createAuthenticator(server.issuer).create(options))
  const answers = await Promise.all(
    made.map((credential) => agent.post(pageOf('/passkeys'), { token, credential, name: 'One' })),
  )
  t.is(answers.filter(({ status }) => status === 303).length, 1)
  t.is((await passkeysOf()).length, 1)
})

test.serial('adds no more than twenty passkeys to an account', async (t) => {
  const { agent } = await withPasskey()
  await query(
    server.databaseUrl,
    `insert into passkeys (account_id, credential_id, public_key, sign_count, transports, aaguid,
                           name, backup_eligible, backed_up)
     select account_id, int4send(n), '', 0, '{}', aaguid, n, false, false
       from passkeys, generate_series(2, 20) as n`,
    [],
  )
  t.is((await addPasskey(server.issuer, agent, createAuthenticator(server.issuer))).status, 400)
  t.is((await passkeysOf()).length, 20)
})

/** A copy of every cookie of a browser: what a thief has who has only that. */
const thiefOf = (agent: UserAgent) => agent.copy()

test.serial('changes nothing from a stolen session, by no route', async (t) => {
  const { agent, authenticator } = await withPasskey()
  const [own] = await passkeysOf()
  const thief = thiefOf(agent)
  const foreign = createAuthenticator(server.issuer)
  const token = tokenOf((await thief.get(pageOf('/sign-in'))).text)
  const changes = ['/passkeys/add', `/passkeys/${own?.id}/rename`, `/passkeys/${own?.id}/remove`]
  for (const change of changes) {
    const page = await thief.get(pageOf(change))
    t.is(page.status, 200)
    const asked = passkeyOptions<PasskeyRequestOptions>(page.text)
    // Of the owner, for another page of the same session.
    const other = changes.find((each) => each !== change) ?? ''
    const elsewhere = passkeyOptions<PasskeyRequestOptions>((await agent.get(pageOf(other))).text)
    for (const fields of [
      {},
      { password: '' },
      { password: 'a wrong password' },
      { credential: foreign.get(asked) },
      { credential: foreign.get(asked, { credentialId: authenticator.credentialId }) },
      { credential: authenticator.get(elsewhere) },
    ]) {
      const answer = await thief.post(pageOf(change), { token, name: 'Mine', ...fields })
      t.true([400, 401].includes(answer.status), `${change} ${JSON.stringify(fields)}`)
      t.false(answer.text.includes('data-passkey-creation'))
    }
  }
  const challenge = optionsOf(await beginSignIn()).challenge
  const user = { id: Buffer.from(own?.accountId ?? '').toString('base64url') }
  const credential = foreign.create({ challenge, rp: { id: 'localhost' }, user })
  const made = await thief.post(pageOf('/passkeys'), { token, credential, name: 'Mine' })
  t.is(made.status, 400)
  t.deepEqual(await passkeysOf(), own ? [own] : [])
})

test.serial('renames and removes a passkey by that passkey, and ends other sign-ins', async (t) => {
  const { agent, authenticator } = await withPasskey()
  const other = await signedIn()
  const [own] = await passkeysOf()
  async function change(action: string, fields: Record<string, string> = {}) {
    const url = pageOf(`/passkeys/${own?.id}/${action}`)
    const { text } = await agent.get(url)
    const credential = authenticator.get(passkeyOptions<PasskeyRequestOptions>(text))
    return agent.post(url, { token: tokenOf(text), credential, ...fields })
  }
  const renaming = pageOf(`/passkeys/${own?.id}/rename`)
  const token = tokenOf((await agent.get(renaming)).text)
  const removing = await agent.get(pageOf(`/passkeys/${own?.id}/remove`))
  for (const { text } of [removing, await other.get(renaming)]) {
    const credential = authenticator.get(passkeyOptions<PasskeyRequestOptions>(text))
    const refused = await agent.post(renaming, { token, credential, name: 'Phone' })
    t.is(refused.status, 401, 'it was asked for by another page')
  }
  t.is((await change('rename', { name: 'Phone \u202e' })).status, 400)
  t.is((await change('rename', { name: 'Phone' })).status, 303)
  t.is((await passkeysOf())[0]?.name, 'Phone')
  t.is((await other.get(pageOf('/sign-in'))).status, 200)
  t.is((await change('remove')).status, 303)
  t.deepEqual(await passkeysOf(), [])
  t.is((await agent.get(pageOf('/sign-in'))).status, 200)
  t.is((await other.get(pageOf('/sign-in'))).status, 303, 'the other sign-in has ended')
  const login = await beginSignIn()
  await isRefused(t, login, authenticator.get(optionsOf(login)), 'unknown')
  const audited = async () => {
    const rows = await query(
      server.databaseUrl,
      `select event from audit_events where event like 'passkey.%' order by id desc limit 3`,
      [],
    )
    return rows.map(({ event }) => event)
  }
  // The trail is written after the response.
  await until(async () => (await audited())[0] === 'passkey.removed')
  t.deepEqual(await audited(), ['passkey.removed', 'passkey.renamed', 'passkey.added'])
})

/** What a page has its browser call, by the methods of PublicKeyCredential. */
function signalsOf(text: string): Record<string, Record<string, unknown>> {
  const [, json = '{}'] = /data-passkey-signals="([^"]+)"/.exec(text) ?? []
  return JSON.parse(json.replaceAll('&quot;', '"'))
}

test.serial('says to browsers which passkeys there are, and which is unknown', async (t) => {
  const { agent, authenticator } = await withPasskey()
  const [own] = await passkeysOf()
  const rpId = 'localhost'
  const userId = Buffer.from(own?.accountId ?? '').toString('base64url')
  const { credentialId } = authenticator
  const all = { rpId, userId, allAcceptedCredentialIds: [credentialId] }
  const details = { rpId, userId, name: email, displayName: 'Ada' }
  const methods = await agent.get(pageOf('/sign-in'))
  t.deepEqual(signalsOf(methods.text), {
    signalAllAcceptedCredentials: all,
    signalCurrentUserDetails: details,
  })
  const profile = await agent.get(pageOf('/profile'))
  t.deepEqual(signalsOf(profile.text), { signalCurrentUserDetails: details })
  for (const page of [methods, profile]) {
    const [, script] = /<script src="([^"]+passkeys[^"]+)"/.exec(page.text) ?? []
    const policy = page.headers.get('content-security-policy') ?? ''
    t.true(policy.includes(` ${server.issuer}${script}`))
  }

  await query(server.databaseUrl, 'delete from passkeys', [])
  const login = await beginSignIn()
  t.deepEqual(signalsOf(login.page.text), {})
  const refused = await show(login, authenticator.get(optionsOf(login)))
  t.deepEqual(signalsOf(refused.text), { signalUnknownCredential: { rpId, credentialId } })
})

test.serial('does not name, rename or remove a passkey of another account', async (t) => {
  const { agent } = await withPasskey()
  const [own] = await passkeysOf()
  const eve = { email: 'eve@example.com', password }
  await query(
    server.databaseUrl,
    `insert into accounts (id, email, password_hash)
     select 'eve', 'eve@example.com', password_hash from accounts where email = $1
     on conflict do nothing`,
    [email],
  )
  const person = await signInAt(server, request(), { as: eve })
  await allow(person.consent)
  const theirs = person.device.agent
  await addPasskey(server.issuer, theirs, createAuthenticator(server.issuer))
  for (const action of ['rename', 'remove']) {
    const url = pageOf(`/passkeys/${own?.id}/${action}`)
    const token = tokenOf((await theirs.get(pageOf('/sign-in'))).text)
    t.is((await theirs.get(url)).status, 400)
    t.is((await theirs.post(url, { token, name: 'Mine', password })).status, 400)
  }
  const by = { accountId: 'eve', sessionUid: undefined, address: undefined, userAgent: undefined }
  t.false(await server.storage.passkeys.rename(String(own?.id), 'Mine', by))
  t.false(await server.storage.passkeys.remove(String(own?.id), 0, by))
  t.is((await passkeysOf())[0]?.name, 'Laptop')
  t.is((await agent.get(pageOf('/sign-in'))).status, 200)
})

test.serial('takes the passkey of another account for no change', async (t) => {
  const { agent } = await withPasskey()
  const [own] = await passkeysOf()
  await query(
    server.databaseUrl,
    `insert into accounts (id, email, password_hash)
     select 'mallory', 'mallory@example.com', password_hash from accounts where email = $1`,
    [email],
  )
  const as = { email: 'mallory@example.com', password }
  const person = await signInAt(server, request(), { as })
  await allow(person.consent)
  const theirs = createAuthenticator(server.issuer)
  t.is((await addPasskey(server.issuer, person.device.agent, theirs)).status, 303)
  // In a session that was stolen.
  const url = pageOf(`/passkeys/${own?.id}/rename`)
  const { text } = await agent.get(url)
  const credential = theirs.get(passkeyOptions<PasskeyRequestOptions>(text))
  const answer = await agent.post(url, { token: tokenOf(text), credential, name: 'Mine' })
  t.is(answer.status, 401)
  t.is((await passkeysOf())[0]?.name, 'Laptop')
})

test.serial('is for nobody without a session', async (t) => {
  const stranger = createUserAgent(server.issuer)
  for (const path of ['/passkeys/add', '/passkeys/x/rename', '/passkeys/x/remove']) {
    t.is((await stranger.get(pageOf(path))).status, 401)
    t.is((await stranger.post(pageOf(path), { token: 'x' })).status, 401)
  }
  t.is((await stranger.post(pageOf('/passkeys'), { token: 'x' })).status, 401)
})

test.serial('runs the one script of passkey pages, and no other', async (t) => {
  const login = await beginSignIn()
  const [, src] = /<script src="([^"]+)"/.exec(login.page.text) ?? []
  const policy = login.page.headers.get('content-security-policy') ?? ''
  t.regex(src ?? '', /^\/assets\/passkeys\.[\w-]{16}\.js$/)
  t.true(policy.includes(`script-src ${server.issuer}${src};`))
  t.is(login.page.text.split('<script').length, 2)
  const script = await login.agent.get(`${server.issuer}${src}`)
  t.is(script.headers.get('content-type'), 'text/javascript; charset=utf-8')
  t.true(script.text.length <= 12 * 1024)
})

const demanding = {
  claims: JSON.stringify({ id_token: { acr: { essential: true, value: passkeyAcr } } }),
}

test.serial('takes no password where an application demands a passkey', async (t) => {
  const { agent, authenticator } = await withPasskey()
  const registered = await server.addClient({
    application_type: 'web',
    redirect_uris: [callback],
    session_policy: { required_acr: passkeyAcr },
  })
  for (const demand of [demanding, { client_id: String(registered.client_id) }]) {
    // From a session that a password began.
    const parameters = { ...request(), ...demand }
    const login = await begin({ origin: server.issuer }, parameters, agent.copy())
    t.false(login.page.text.includes('type="password"'))
    const typed = await signIn(login)
    t.is(typed.status, 401)
    t.regex(typed.text, /A password is not enough here/)
    const posted = await show(login, authenticator.get(optionsOf(login)))
    const arrived = await login.agent.follow(posted)
    t.regex(arrived.location ?? arrived.text, /code=|Allow /)
  }
})

test.serial('allows passkeys of certified and listed models alone', async (t) => {
  const listed = '08987058-cadc-4b81-b6e1-30de50dcbe96'
  const aaguid = Buffer.from(listed.replaceAll('-', ''), 'hex')
  const root = await createAuthority('CN=Root of the maker')
  const leaf = await root.issue({
    subject: 'C=SE,O=Maker,OU=Authenticator Attestation,CN=Model',
    extensions: [
      new x509.Extension('1.3.6.1.4.1.45724.1.1.4', false, Buffer.from([4, 16, ...aaguid])),
    ],
  })
  const file = path.join(folder, 'roots.pem')
  await writeFile(file, root.cert)
  const strict = await startTestServer({
    HOLDFAST_PASSKEY_AAGUIDS: listed,
    HOLDFAST_PASSKEY_ATTESTATION_ROOTS_FILE: file,
  })
  t.teardown(() => strict[Symbol.asyncDispose]())
  const app = await strict.addClient({ application_type: 'web', redirect_uris: [callback] })
  const parameters = { ...request(), client_id: String(app.client_id) }
  const person = await signInAt(strict, parameters)
  await allow(person.consent)
  const { agent } = person.device
  const refused = await addPasskey(
    strict.issuer,
    agent,
    createAuthenticator(strict.issuer, { aaguid, attestation: {} }),
  )
  t.is(refused.status, 403)
  t.regex(refused.text, /does not allow this kind of passkey/)
  const isLogged = (line: string) => line.includes('"passkey.registration_refused"')
  t.regex(strict.logged.find(isLogged) ?? '', /"reason":"not_attested"/)

  const attestation = { certificates: [leaf.der], key: leaf.key }
  const authenticator = createAuthenticator(strict.issuer, { aaguid, attestation })
  t.is((await addPasskey(strict.issuer, agent, authenticator)).status, 303)
  const atSignIn = async () => {
    const login = await begin({ origin: strict.issuer }, parameters)
    return show(login, authenticator.get(optionsOf(login)))
  }
  t.is((await atSignIn()).status, 303)
  const page = `${strict.issuer}/security/sign-in`
  t.notRegex((await agent.get(page)).text, /does not allow this passkey any more/)

  // Added before there was a list, or of a model that was taken from it.
  for (const change of ['attested = false', 'attested = true, aaguid = gen_random_uuid()']) {
    await query(strict.databaseUrl, `update passkeys set ${change}`, [])
    const answer = await atSignIn()
    t.is(answer.status, 401)
    t.regex(answer.text, /does not allow this passkey any more/)
  }
  t.regex((await agent.get(page)).text, /does not allow this passkey any more/)
  const { options } = await beginCreation(strict.issuer, agent)
  t.deepEqual((options as { excludeCredentials?: unknown[] }).excludeCredentials, [])
})

test.serial('names related origins, and accepts passkeys of its own pages alone', async (t) => {
  const port = String(await freePort())
  const origins = ['https://login.example.org', 'https://login.example.net']
  await using below = await startTestServer({
    HOLDFAST_PORT: port,
    HOLDFAST_ISSUER: `http://localhost:${port}/auth`,
    HOLDFAST_PASSKEY_RP_ID: 'example.com',
    HOLDFAST_PASSKEY_RELATED_ORIGINS: origins.join(),
  })
  const { origin } = new URL(below.issuer)
  const document = await fetch(`${origin}/.well-known/webauthn`)
  t.is(document.status, 200)
  t.is(document.headers.get('content-type'), 'application/json; charset=utf-8')
  t.deepEqual(await document.json(), { origins })
  t.is((await fetch(`${server.issuer}/.well-known/webauthn`)).status, 404)

  const app = await below.addClient({ application_type: 'web', redirect_uris: [callback] })
  const parameters = { ...request(), client_id: String(app.client_id) }
  const person = await signInAt(below, parameters)
  await allow(person.consent)
  const { agent } = person.device
  const authenticator = createAuthenticator(origin)
  const { token, options } = await beginCreation(below.issuer, agent)
  t.is(options.rp.id, 'example.com')
  const add = (ceremony: Ceremony) =>
    agent.post(`${below.issuer}/security/passkeys`, {
      ...{ token, name: 'Laptop' },
      credential: authenticator.create(options, ceremony),
    })
  const login = await begin({ origin: below.issuer }, parameters)
  for (const elsewhere of [...origins, 'https://example.com', `${origin}/auth`]) {
    t.is((await add({ origin: elsewhere })).status, 400)
  }
  t.is((await add({})).status, 303)
  for (const elsewhere of [...origins, 'https://example.com', `${origin}/auth`]) {
    const credential = authenticator.get(optionsOf(login), { origin: elsewhere })
    t.is((await show(login, credential)).status, 401)
  }
  t.is((await show(login, authenticator.get(optionsOf(login)))).status, 303)
})

test.serial('with the policy passkey takes a password for the first passkey only', async (t) => {
  const strict = await startTestServer({ HOLDFAST_SIGN_IN: 'passkey' })
  t.teardown(() => strict[Symbol.asyncDispose]())
  const { issuer } = strict
  const app = await strict.addClient({ application_type: 'web', redirect_uris: [callback] })
  const parameters = { ...request(), client_id: String(app.client_id) }
  const refused = await begin({ origin: issuer }, parameters)
  t.false(refused.page.text.includes('type="password"'))
  t.is((await signIn(refused)).status, 401)

  const atSecurity = async () => {
    const agent = createUserAgent(issuer)
    const { location = '' } = await agent.get(`${issuer}/security/sign-in`)
    return interact(agent, await agent.get(location))
  }
  const first = await atSecurity()
  await first.agent.follow(await signIn(first))
  const authenticator = createAuthenticator(issuer)
  t.is((await addPasskey(issuer, first.agent, authenticator)).status, 303)
  const second = await signIn(await atSecurity())
  t.is(second.status, 401)
  t.regex(second.text, /No account has this email and password/)

  const shown = (await first.agent.get(`${issuer}/security/sign-in`)).text
  const [, remove = ''] = /href="([^"]+\/remove)"/.exec(shown) ?? []
  const page = await first.agent.get(`${issuer}${remove}`)
  t.false(page.text.includes('type="password"'))
  const token = tokenOf(page.text)
  t.is((await first.agent.post(`${issuer}${remove}`, { token, password })).status, 401)
  const credential = authenticator.get(passkeyOptions(page.text))
  const last = await first.agent.post(`${issuer}${remove}`, { token, credential })
  t.is(last.status, 400)
  t.regex(last.text, /This is your only passkey/)
})

test('keeps out nobody elsewhere after ten thousand rejected passkeys of one network', async (t) => {
  let looked = 0
  const forms = createPasskeyForms({
    passkeys: {
      requestOptions: () => ({ challenge: '', rpId: '', allow: [] }),
      async authenticate() {
        looked += 1
        return { account: undefined, reason: 'unknown', of: undefined, signals: undefined }
      },
    },
    limit: createNetworkLimit({ perMinute: 60, now: () => 0 }),
    events: { passkeyRefused: () => {}, rateLimited: () => {} },
    securityEvents: { record: async () => {} },
    scriptUrl: '',
  })
  const ctx = { get: () => '', set: () => {}, state: {} }
  const given = { form: new Map([['credential', '{}']]), purpose: 'sign-in' }
  const statusFor = async (address: string) => {
    const shown = await forms.authenticate(ctx, { ...given, facts: { address } })
    return shown.account ? 303 : shown.status
  }
  for (let count = 0; count < 10_000; count += 1) await statusFor('192.0.2.1')
  t.is(looked, 60)
  t.is(await statusFor('192.0.2.1'), 429)
  t.is(await statusFor('192.0.2.2'), 401)
})
