import { hash, randomBytes } from 'node:crypto'
import test, { type ExecutionContext } from 'ava'
import { calculateJwkThumbprint, decodeJwt } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { makeTicket } from '../../packages/verify/lib/ticket.ts'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { sessionBindingName } from '../../src/bindings/session-claims.ts'
import type { KeyPair } from '../../src/doctor/proof.ts'
import { sessionRules } from '../../src/engine/client-session-policy.ts'
import { secretsOf } from '../../src/engine/engine-keys.ts'
import {
  allow,
  challengeOf,
  createDevice,
  holdMoment,
  letMomentPass,
  type SignedIn,
  signInAt,
} from '../support/device.ts'
import { newKey, post, refreshing } from '../support/flow.ts'
import { authorizationUrl, begin } from '../support/journey.ts'
import { race, raceFor } from '../support/lock.ts'
import { query } from '../support/query.ts'
import { email, password, useTestServer } from '../support/server.ts'
import { trust } from '../support/trust.ts'
import { createUserAgent, type Page, type UserAgent } from '../support/user-agent.ts'
import { refreshProof } from '../support/verify/dbsc.ts'
import { makeKey } from '../support/verify/keys.ts'

const server = useTestServer(test, { HOLDFAST_TLS: 'on' })
let client: ClientMetadata

test.before(async () => {
  await trust(server)
  client = await server.addClient({ application_type: 'web', redirect_uris: [callback] })
})

const callback = 'https://rp.example/callback'
const request = () => ({ client_id: client.client_id, redirect_uri: callback, scope: 'openid' })
const reauthenticate = () => ({ ...request(), prompt: 'login consent' })
const authorize = (agent: UserAgent, more: Record<string, string> = {}, headers = {}) =>
  agent.get(authorizationUrl(server.issuer, { ...request(), ...more }), headers)

/** Signed in, bound, and with an app that was allowed. */
async function bound(): Promise<SignedIn> {
  const person = await signInAt(server, request())
  const registered = await person.device.register(person.offer)
  if (registered.status !== 200) throw new Error(registered.text)
  await allow(person.consent)
  await age(person.device.session)
  return person
}

const age = (uid: string) => letMomentPass(server.databaseUrl, uid)

const isCode = ({ location }: Page) => new URL(location ?? '').searchParams.has('code')
const isSignIn = ({ location }: Page) => location?.includes('/interaction/') ?? false
const errorOf = ({ location }: Page) => new URL(location ?? '').searchParams.get('error')
const fromApp = { 'sec-fetch-dest': 'document', 'sec-fetch-site': 'cross-site' }
const isHop = ({ status, text }: Page) => status === 200 && text.includes('http-equiv="refresh"')

/** Everything of a browser's but its key: its cookies, less the companion that has run out. */
const cookiesOf = (device: SignedIn['device'], { companion: boundCookie = false } = {}) =>
  device.agent.copy((cookie) => boundCookie || !cookie.startsWith('__Host-holdfast_bound'))

test('registration is offered with the response to the sign-in, and only there', async (t) => {
  const { offer, consent, device } = await signInAt(server, request())
  t.regex(
    offer.headers.get('secure-session-registration') ?? '',
    /^\(ES256 RS256\);path="\/dbsc\/registration";challenge="[\w.-]+";authorization="[\w.-]+"$/,
  )
  t.is(consent.page.headers.get('secure-session-registration'), null)
  await allow(consent)
  const again = await authorize(device.agent)
  t.true(isCode(again))
  t.is(again.headers.get('secure-session-registration'), null)
})

test('accepts a bound session with its bound cookie, and rejects it without', async (t) => {
  const { device } = await bound()
  t.true(isCode(await authorize(device.agent)))
  t.true(isSignIn(await authorize(cookiesOf(device))))
  t.is(errorOf(await authorize(cookiesOf(device), { prompt: 'none' })), 'login_required')
  t.true(isCode(await authorize(device.agent)), 'its owner is still in')
})

test('a session without a key works as it ever did', async (t) => {
  const { device, consent } = await signInAt(server, request())
  await allow(consent)
  t.true(isCode(await authorize(device.agent)))
})

test('rejects the bound cookie without the session cookie', async (t) => {
  const { device } = await bound()
  const agent = device.agent.copy((cookie) => cookie.startsWith('__Host-holdfast_bound'))
  t.true(isSignIn(await authorize(agent)))
})

test('rejects the bound cookie of another session', async (t) => {
  const [ada, thief] = [await bound(), await bound()]
  const mixed = cookiesOf(ada.device)
  await mixed.take(thief.device.agent, '__Host-holdfast_bound')
  t.true(isSignIn(await authorize(mixed)))
})

test('an event tells of a session without its proof', async (t) => {
  const { device } = await bound()
  await authorize(cookiesOf(device))
  const kinds = await query(
    server.databaseUrl,
    'select kind from security_events where session_uid = $1 order by id',
    [device.session],
  )
  t.deepEqual(
    kinds.map(({ kind }) => kind),
    ['signed_in', 'session_bound', 'session_unproven'],
  )
  t.true(server.logged.some((line) => line.includes('session_unproven')))
})

test('requests that were under way while the key was registered still count', async (t) => {
  const { device, offer, consent } = await signInAt(server, request())
  const before = cookiesOf(device)
  await device.register(offer)
  await holdMoment(server.databaseUrl, device.session)
  t.is((await before.get(consent.url)).status, 200)
})

test('the first key stays, and the offer is good for one', async (t) => {
  const { device, offer } = await signInAt(server, request())
  await device.register(offer)
  const thief = createDevice(server, cookiesOf(device))
  const { status, text } = await thief.register(offer)
  t.is(status, 403)
  t.is(JSON.parse(text).error, 'dbsc_bound_already')
  t.is((await device.refresh()).status, 200)
})

test('rejects a registration in a browser that is in another session', async (t) => {
  const { offer } = await signInAt(server, request())
  const other = await signInAt(server, request())
  t.is((await other.device.register(offer)).status, 403)
})

test('signing in again in an unbound session offers registration again', async (t) => {
  const { device, consent } = await signInAt(server, request())
  await allow(consent)
  const again = await signInAt(server, reauthenticate(), { agent: device.agent })
  t.truthy(again.offer.headers.get('secure-session-registration'))
})

test('signing in again in a bound session keeps its key', async (t) => {
  const { device } = await bound()
  const again = await signInAt(server, reauthenticate(), { agent: device.agent })
  t.is(again.offer.headers.get('secure-session-registration'), null)
  t.is((await device.refresh()).status, 200)
})

test('answers a refresh by 403 with a challenge, never 401, and then by a bound cookie', async (t) => {
  const { device } = await bound()
  const asked = await device.ask()
  t.is(asked.status, 403)
  t.regex(asked.headers.get('secure-session-challenge') ?? '', /^"[\w.-]+";id="[\w-]+"$/)
  const answer = await device.ask(refreshProof({ jti: challengeOf(asked) }, {}, device.key))
  t.is(answer.status, 200)
  t.is(JSON.parse(answer.text).session_identifier, device.session)
  t.true(isCode(await authorize(device.agent)))
})

test('rejects a proof that was used, on whatever node', async (t) => {
  const { device } = await bound()
  const proof = refreshProof({ jti: challengeOf(await device.ask()) }, {}, device.key)
  const answers = await Promise.all(Array.from({ length: 8 }, () => device.ask(proof)))
  t.is(answers.filter(({ status }) => status === 200).length, 1)
  const again = await device.ask(proof)
  t.is(again.status, 403)
  t.is(JSON.parse(again.text).error, 'dbsc_replayed')
})

test('rejects a refresh by the key of a thief, and tells', async (t) => {
  const { device } = await bound()
  const answer = await device.refresh(makeKey())
  t.is(answer.status, 403)
  t.is(answer.headers.get('set-cookie'), null)
  const [event] = await query(
    server.databaseUrl,
    `select kind, code, address, user_agent from security_events
      where session_uid = $1 order by id desc limit 1`,
    [device.session],
  )
  t.deepEqual(event, {
    kind: 'proof_refused',
    code: 'dbsc_signature',
    address: '127.0.0.1',
    user_agent: 'node',
  })
})

test('logs at most ten repeats and counts all', async (t) => {
  const { device } = await bound()
  const counted = async (event: string) => {
    const metrics = await (await fetch(`http://${server.operators}/metrics`)).text()
    return Number(new RegExp(`event="${event}"} (\\d+)`).exec(metrics)?.[1] ?? 0)
  }
  const before = await counted('proof_refused')
  const stale = cookiesOf(device)
  for (const _ of Array(12)) {
    await device.refresh(makeKey())
    await authorize(stale)
  }
  t.true((await counted('proof_refused')) - before >= 12)
  const kept = await query(
    server.databaseUrl,
    `select kind, count(*)::int as kept from security_events
      where session_uid = $1 and kind in ('proof_refused', 'session_unproven') group by kind`,
    [device.session],
  )
  t.deepEqual(
    kept.map((row) => row.kept),
    [10, 10],
  )
  const told = server.logged.filter(
    (line) => line.includes('proof_refused') && line.includes(device.session),
  )
  t.is(told.length, 10)
  t.is((await device.refresh()).status, 200, 'its owner is not slowed down')
})

test('answers a navigation from an app by one page in between, and no second', async (t) => {
  const { device } = await bound()
  const stale = cookiesOf(device)
  t.true(isHop(await authorize(stale, {}, fromApp)))
  t.true(isHop(await authorize(stale, { prompt: 'none' }, fromApp)))
  t.true(isSignIn(await authorize(stale, {}, { ...fromApp, 'sec-fetch-site': 'same-origin' })))
  t.true(isSignIn(await authorize(stale, {}, { ...fromApp, 'sec-fetch-site': 'none' })))
})

test('sends no interstitial without a bound session', async (t) => {
  const { device } = await bound()
  t.true(isCode(await authorize(device.agent, {}, fromApp)))
  t.true(isSignIn(await authorize(createUserAgent(server.issuer), {}, fromApp)))
  const unbound = await signInAt(server, request())
  await allow(unbound.consent)
  t.true(isCode(await authorize(unbound.device.agent, {}, fromApp)))
})

test('rejects the consent of a bound session from a thief', async (t) => {
  const person = await signInAt(server, request())
  await person.device.register(person.offer)
  await age(person.device.session)
  const thief = cookiesOf(person.device)
  t.is((await thief.get(person.consent.url)).status, 400)
  const posted = await thief.post(`${person.consent.url}/confirm`, { token: person.consent.token })
  t.is(posted.status, 400)
  t.truthy((await allow(person.consent)).searchParams.get('code'))
})

test('ends the session everywhere on sign-out, and tells the browser', async (t) => {
  const { device } = await bound()
  const page = await device.agent.get(`${server.issuer}/session/end`)
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(page.text)?.[1] ?? ''
  const copy = cookiesOf(device, { companion: true })
  const done = await device.agent.post(`${server.issuer}/session/end/confirm`, {
    xsrf,
    logout: 'yes',
  })
  t.is(done.headers.get('clear-site-data'), '"storage"')
  t.regex(done.headers.get('set-cookie') ?? '', /__Host-holdfast_bound=;.*Max-Age=0/)
  const refreshed = await device.refresh()
  t.is(refreshed.status, 200)
  t.deepEqual(JSON.parse(refreshed.text), { session_identifier: device.session, continue: false })
  t.true(isSignIn(await authorize(copy)))
})

for (const [title, end] of [
  ['a new password', () => accounts().setPassword(email, password)],
  [
    'disabling the account',
    () =>
      accounts()
        .disable(email)
        .then(() => accounts().enable(email)),
  ],
  ['an operator', () => accounts().signOut(email)],
] as [string, () => Promise<unknown>][]) {
  test.serial(`${title} ends every session of the person`, async (t) => {
    const [laptop, unbound] = [await bound(), await signInAt(server, request())]
    await end()
    const refreshed = await laptop.device.refresh()
    t.like(JSON.parse(refreshed.text), { continue: false })
    t.true(isSignIn(await authorize(laptop.device.agent)))
    t.true(isSignIn(await authorize(unbound.device.agent)))
  })
}

const accounts = () => createAccounts({ store: server.storage.accounts })

test('another person who signs in in the same browser ends the session before', async (t) => {
  const { device } = await bound()
  const as = { email: 'eve@example.com', password: 'a password for eve' }
  await accounts().add(as)
  const eve = await signInAt(server, { ...request(), prompt: 'login' }, { agent: device.agent, as })
  t.like(JSON.parse((await device.refresh()).text), { continue: false })
  t.is((await eve.device.register(eve.offer)).status, 200)
  t.is((await eve.device.refresh()).status, 200)
})

test('a sign-in after a lost key ends the session that the browser cannot prove', async (t) => {
  const { device } = await bound()
  const { session } = device
  const agent = cookiesOf(device)
  const again = await signInAt(server, request(), { agent })
  t.is(await server.storage.browserSessions.find(session), undefined)
  t.is((await again.device.register(again.offer)).status, 200)
  // The response removes the old cookie from this browser.
  const old = createDevice(server, agent)
  const stale = await agent.post(
    `${server.issuer}/dbsc/refresh`,
    {},
    { 'sec-secure-session-id': device.session },
  )
  t.like(JSON.parse(stale.text), { continue: false })
  t.is(old.session, '')
  t.like(JSON.parse((await device.ask()).text), { continue: false })
})

test('the loss of what was stored never makes a session unbound', async (t) => {
  const { device } = await bound()
  await query(server.databaseUrl, 'delete from browser_sessions where uid = $1', [device.session])
  t.true(isSignIn(await authorize(cookiesOf(device, { companion: true }))))
})

test('no request to a page of a bound session offers registration once more', async (t) => {
  const { device } = await bound()
  const { page } = await begin({ origin: server.issuer }, request(), cookiesOf(device))
  t.is(page.headers.get('secure-session-registration'), null)
})
let key: KeyPair

test.before(async () => {
  await trust(server)
  key = await newKey()
})
const verifier = randomBytes(32).toString('base64url')

const addClient = (session_policy: ClientMetadata['session_policy'] = {}) =>
  server.addClient({ application_type: 'web', redirect_uris: [callback], session_policy })

const requestOf = ({ client_id }: ClientMetadata, more: Record<string, string> = {}) => ({
  client_id,
  redirect_uri: callback,
  scope: 'openid offline_access',
  prompt: 'consent',
  code_challenge: hash('sha256', verifier, 'base64url'),
  ...more,
})

/** Signed in with an app, bound or not; what came back to the app. */
async function signedIn(client: ClientMetadata, { bound }: { bound: boolean }) {
  const person = await signInAt(server, requestOf(client))
  if (bound) await person.device.register(person.offer)
  const arrived = await allow(person.consent)
  return { ...person, code: arrived.searchParams.get('code') ?? '' }
}

async function authorizeFor(agent: UserAgent, client: ClientMetadata, more = {}): Promise<string> {
  const { prompt: _, ...parameters } = requestOf(client)
  const url = authorizationUrl(server.issuer, { ...parameters, scope: 'openid', ...more })
  return (await agent.get(url)).location ?? ''
}

async function exchange(client: ClientMetadata, code: string) {
  const { status, body } = await post(
    server,
    '/token',
    {
      grant_type: 'authorization_code',
      client_id: client.client_id,
      code,
      code_verifier: verifier,
      redirect_uri: callback,
    },
    { key },
  )
  if (status !== 200) throw new Error(JSON.stringify(body))
  return body
}

test('the ID token of a bound session names its key and the session', async (t) => {
  const client = await addClient()
  const { device, code } = await signedIn(client, { bound: true })
  const claims = decodeJwt((await exchange(client, code)).id_token)
  t.is(claims[sessionBindingName], 'dbsc')
  t.is(claims.dbsc_session, device.session)
  t.deepEqual(claims.cnf, { jkt: await calculateJwkThumbprint(device.key.publicJwk) })
})

test('the ID token of an unbound session says nothing of it and names no key', async (t) => {
  const client = await addClient()
  const claims = decodeJwt(
    (await exchange(client, (await signedIn(client, { bound: false })).code)).id_token,
  )
  t.false(sessionBindingName in claims)
  t.false('cnf' in claims || 'dbsc_session' in claims)
})

test('a key that is registered too late is not in the ID token, and is in the next', async (t) => {
  const client = await addClient()
  const { device, offer, code } = await signedIn(client, { bound: false })
  const early = await exchange(client, code)
  t.false(sessionBindingName in decodeJwt(early.id_token))
  await device.register(offer)
  const { body } = await post(server, '/token', refreshing(client, early.refresh_token), { key })
  t.is(decodeJwt(body.id_token)[sessionBindingName], 'dbsc')
  const told = server.logged.filter((line) => line.includes('session_bound_late'))
  t.deepEqual(
    told.map((line) => JSON.parse(line)).map(({ sessionUid, clients }) => [sessionUid, clients]),
    [[device.session, [client.client_id]]],
  )
  const metrics = await (await fetch(`http://${server.operators}/metrics`)).text()
  t.regex(metrics, /^holdfast_session_events_total\{event="session_bound_late"\} 1$/m)
})

test('access tokens say how the session was bound, and that it has ended', async (t) => {
  const client = await addClient()
  const introspect = async (token: string) =>
    (await post(server, '/introspect', { client_id: client.client_id, token })).body
  const { code, device } = await signedIn(client, { bound: true })
  const tokens = await exchange(client, code)
  t.is((await introspect(tokens.access_token))[sessionBindingName], 'dbsc')
  await server.storage.browserSessions.end(device.session)
  const { body } = await post(server, '/token', refreshing(client, tokens.refresh_token), { key })
  t.is((await introspect(body.access_token))[sessionBindingName], 'ended')
})

test('offline access outlives the session, unless the client wants otherwise', async (t) => {
  for (const [ends_tokens, status] of [
    [false, 200],
    [true, 400],
  ] as const) {
    const client = await addClient({ ends_tokens })
    const { code, device } = await signedIn(client, { bound: true })
    const { refresh_token } = await exchange(client, code)
    await server.storage.browserSessions.end(device.session)
    const answer = await post(server, '/token', refreshing(client, refresh_token), { key })
    t.is(answer.status, status)
    if (status === 400) t.is(answer.body.error, 'invalid_grant')
  }
})

const codes = /[?&]code=/
const signIns = /\/interaction\/[^/]+$/
const silentlyRefused = /error=login_required/

async function unboundSession(t: ExecutionContext): Promise<SignedIn['device']> {
  const client = await addClient()
  const { device } = await signedIn(client, { bound: false })
  t.regex(await authorizeFor(device.agent, client), codes)
  return device
}

/** The client's own consent, so that nothing but its policy is in the way. */
async function allowed(device: SignedIn['device'], client: ClientMetadata) {
  const again = await signInAt(server, requestOf(client, { prompt: 'login consent' }), {
    agent: device.agent,
  })
  await allow(again.consent)
}

test('a client may refuse sessions without a key but for fresh sign-ins', async (t) => {
  const device = await unboundSession(t)
  const strict = await addClient({ unbound: { max_age: 0 } })
  await allowed(device, strict)
  t.regex(await authorizeFor(device.agent, strict), signIns)
  t.regex(await authorizeFor(device.agent, strict, { prompt: 'none' }), silentlyRefused)
  const lenient = await addClient({ unbound: { max_age: 3600 } })
  await allowed(device, lenient)
  t.regex(await authorizeFor(device.agent, lenient), codes)
})

test('a client may refuse prompt=none to sessions without a key', async (t) => {
  const device = await unboundSession(t)
  const client = await addClient({ unbound: { prompt_none: false } })
  await allowed(device, client)
  t.regex(await authorizeFor(device.agent, client), codes)
  t.regex(await authorizeFor(device.agent, client, { prompt: 'none' }), silentlyRefused)
})

test('a rule may hold for one authentication context only', async (t) => {
  const device = await unboundSession(t)
  const client = await addClient({ acr: { high: { unbound: { max_age: 0 } } } })
  await allowed(device, client)
  t.regex(await authorizeFor(device.agent, client), codes)
  t.regex(await authorizeFor(device.agent, client, { acr_values: 'low' }), codes)
  t.regex(await authorizeFor(device.agent, client, { acr_values: 'low high' }), signIns)
})

test('rules for unbound sessions do not touch bound ones', async (t) => {
  const client = await addClient({ unbound: { max_age: 0, prompt_none: false } })
  const { device } = await signedIn(client, { bound: true })
  t.regex(await authorizeFor(device.agent, client, { prompt: 'none' }), codes)
})

test('a proof that is too old is asked for once more, before the app gets a code', async (t) => {
  const client = await addClient({ proof_max_age: 10 })
  const { device } = await signedIn(client, { bound: true })
  t.regex(await authorizeFor(device.agent, client), codes)
  await makeProofOlder(device)
  t.regex(await authorizeFor(device.agent, client, { prompt: 'none' }), silentlyRefused)
  const location = await authorizeFor(device.agent, client)
  t.regex(location, /\/interaction\/[^/]+\/proof$/)
  const page = await device.agent.get(location)
  t.regex(page.text, /http-equiv="refresh" content="0; url=\?again=1"/)
  t.regex(page.headers.get('set-cookie') ?? '', /^__Host-holdfast_bound=;.*Max-Age=0/)
  await device.refresh()
  const proven = await device.agent.follow(await device.agent.get(`${location}?again=1`))
  t.regex(proven.location ?? '', codes)
})

test('a browser that cannot prove its key once more gets no code', async (t) => {
  const client = await addClient({ proof_max_age: 10 })
  const { device } = await signedIn(client, { bound: true })
  await makeProofOlder(device)
  const location = await authorizeFor(device.agent, client)
  await device.agent.get(location)
  t.is((await device.agent.get(`${location}?again=1`)).status, 400)
})

test('does not ask twice for a bound cookie that a thief keeps', async (t) => {
  const client = await addClient({ proof_max_age: 10 })
  const { device } = await signedIn(client, { bound: true })
  await makeProofOlder(device)
  const location = await authorizeFor(device.agent, client)
  t.is((await device.agent.get(`${location}?again=1`)).status, 400)
})

test('rejects a policy that it does not know', async (t) => {
  for (const [session_policy, where] of [
    [{ proof_max_age: 9 }, 'session_policy.proof_max_age'],
    [{ unbound: { max_age: -1 } }, 'session_policy.unbound.max_age'],
    [{ unbounded: {} }, 'session_policy'],
    [{ acr: { high: { federation: true } } }, 'session_policy.acr.high'],
  ] as const) {
    const error = await t.throwsAsync(addClient(session_policy as never))
    t.regex(error?.message ?? '', new RegExp(`${where}: `))
  }
})

test('of several rules the strictest holds', (t) => {
  const policy = {
    proof_max_age: 60,
    unbound: { max_age: 100 },
    acr: { high: { proof_max_age: 10, unbound: { prompt_none: false } } },
  }
  t.deepEqual(sessionRules(policy, []), {
    proofMaxAge: 60,
    unboundMaxAge: 100,
    unboundPromptNone: true,
  })
  t.deepEqual(sessionRules(policy, ['other', 'high']), {
    proofMaxAge: 10,
    unboundMaxAge: 100,
    unboundPromptNone: false,
  })
  t.is(sessionRules({}, []).proofMaxAge, Number.POSITIVE_INFINITY)
})

/** A companion that was made by this server half a minute ago. */
async function makeProofOlder(device: SignedIn['device']): Promise<void> {
  await letMomentPass(server.databaseUrl, device.session)
  const cookie = (await device.agent.jar.getCookies(server.issuer)).find(
    ({ key: name }) => name === '__Host-holdfast_bound',
  )
  const [secret] = secretsOf(server.keys.view(), 'session-binding') as [Buffer]
  const value = makeTicket(secret, ['companion', device.session], Date.now() - 30_000)
  await device.agent.jar.setCookie(`${cookie?.key}=${value}; Path=/; Secure`, server.issuer)
}

const raceServer = useTestServer(test, { HOLDFAST_TLS: 'on' })
test.before(() => trust(raceServer))
const appRequest = ({ client_id }: ClientMetadata) => ({
  client_id,
  redirect_uri: callback,
  scope: 'openid',
  code_challenge: hash('sha256', verifier, 'base64url'),
})
const addApp = () => raceServer.addClient({ application_type: 'web', redirect_uris: [callback] })
const codeOf = (location: string | undefined) =>
  new URL(location ?? '').searchParams.get('code') ?? ''

async function exchangeCode(client: ClientMetadata, code: string) {
  const parameters = {
    grant_type: 'authorization_code',
    client_id: client.client_id,
    code,
    code_verifier: verifier,
    redirect_uri: callback,
  }
  return post(raceServer, '/token', parameters, { key: await newKey() })
}

/** One browser in which two apps were allowed. */
async function twoApps() {
  const [a, b] = [await addApp(), await addApp()]
  const first = await signInAt(raceServer, appRequest(a))
  await allow(first.consent)
  const { device } = first
  const second = await signInAt(raceServer, { ...appRequest(b), prompt: 'login consent' }, device)
  await allow(second.consent)
  return { a, b, device, offer: second.offer }
}

const authorizeApp = async (agent: UserAgent, client: ClientMetadata) =>
  codeOf((await agent.get(authorizationUrl(raceServer.issuer, appRequest(client)))).location)

test.serial(
  'two apps that are authorized at once in one session both get their tokens',
  async (t) => {
    const [a, b] = [await addApp(), await addApp()]
    const { device, consent } = await signInAt(raceServer, appRequest(a))
    const other = await device.agent.get(authorizationUrl(raceServer.issuer, appRequest(b)))
    const form = await device.agent.get(other.location ?? '')
    const token = /name="token" value="([^"]+)"/.exec(form.text)?.[1] ?? ''
    // Each has a cookie jar as it was, as two tabs would send it.
    const tabs = [
      consent,
      { ...consent, url: other.location ?? '', token, agent: device.agent.copy() },
    ]
    const lock = { text: 'select from browser_sessions for update', andThen: 'commit' } as const
    const locations = await raceFor(
      raceServer.databaseUrl,
      lock,
      tabs.map((tab) => () => allow(tab)),
    )
    const answers = await Promise.all([
      exchangeCode(a, codeOf(locations[0]?.href)),
      exchangeCode(b, codeOf(locations[1]?.href)),
    ])
    t.deepEqual(
      answers.map(({ status }) => status),
      [200, 200],
    )
  },
)

test.serial('a key that is registered during an authorization stays registered', async (t) => {
  const { a, device, offer } = await twoApps()
  const [code] = await race(raceServer.databaseUrl, 'Session', [
    async () => {
      const registered = createDevice(raceServer, device.agent)
      const [answer] = await Promise.all([
        authorizeApp(device.agent, a),
        registered.register(offer),
      ])
      return answer
    },
  ])
  t.truthy(code)
  const binding = await raceServer.storage.browserSessions.find(
    (await raceServer.provider.AuthorizationCode.find(code ?? ''))?.sessionUid ?? '',
  )
  t.is(binding?.binding?.method, 'dbsc')
})

test.serial('an app that one tab signs out of does not come back with the other', async (t) => {
  const { a, b, device } = await twoApps()
  const code = await authorizeApp(device.agent, a)
  const page = await device.agent.get(`${raceServer.issuer}/session/end?client_id=${a.client_id}`)
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(page.text)?.[1] ?? ''
  await device.agent.post(`${raceServer.issuer}/session/end/confirm`, { xsrf })
  t.is((await exchangeCode(a, code)).status, 400)
  t.is((await exchangeCode(b, await authorizeApp(device.agent, b))).status, 200)
})

test.serial('a session that ends during a request stays ended', async (t) => {
  const { a, device } = await twoApps()
  const code = await raceServer.provider.AuthorizationCode.find(await authorizeApp(device.agent, a))
  const uid = code?.sessionUid ?? ''
  await race(raceServer.databaseUrl, 'Session', [
    () => Promise.all([authorizeApp(device.agent, a), raceServer.storage.browserSessions.end(uid)]),
  ])
  t.is(await raceServer.storage.browserSessions.find(uid), undefined)
  const next = await device.agent.get(authorizationUrl(raceServer.issuer, appRequest(a)))
  t.regex(next.location ?? '', /\/interaction\//)
})
