import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { createAccounts } from '../../src/accounts/accounts.ts'
import {
  allow,
  challengeOf,
  createDevice,
  holdMoment,
  letMomentPass,
  type SignedIn,
  signInAt,
} from '../support/device.ts'
import { authorizationUrl, begin } from '../support/journey.ts'
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
const cookiesOf = (device: SignedIn['device'], { companion = false } = {}) =>
  device.agent.copy((cookie) => companion || !cookie.startsWith('__Host-holdfast_bound'))

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

test('of what anybody can repeat a few are told, and all are counted', async (t) => {
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

test('nobody hops who has nothing to prove', async (t) => {
  const { device } = await bound()
  t.true(isCode(await authorize(device.agent, {}, fromApp)))
  t.true(isSignIn(await authorize(createUserAgent(server.issuer), {}, fromApp)))
  const unbound = await signInAt(server, request())
  await allow(unbound.consent)
  t.true(isCode(await authorize(unbound.device.agent, {}, fromApp)))
})

test('a thief cannot go on with the consent of a bound session', async (t) => {
  const person = await signInAt(server, request())
  await person.device.register(person.offer)
  await age(person.device.session)
  const thief = cookiesOf(person.device)
  t.is((await thief.get(person.consent.url)).status, 400)
  const posted = await thief.post(`${person.consent.url}/confirm`, { token: person.consent.token })
  t.is(posted.status, 400)
  t.truthy((await allow(person.consent)).searchParams.get('code'))
})

test('signing out ends the session everywhere, and the browser is told', async (t) => {
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

test('a sign-in after a lost key leaves the old session to itself', async (t) => {
  const { device } = await bound()
  const agent = cookiesOf(device)
  const again = await signInAt(server, request(), { agent })
  t.is((await again.device.register(again.offer)).status, 200)
  // This browser is told to forget the old one, and whoever else has its key is not.
  const old = createDevice(server, agent)
  const stale = await agent.post(
    `${server.issuer}/dbsc/refresh`,
    {},
    { 'sec-secure-session-id': device.session },
  )
  t.like(JSON.parse(stale.text), { continue: false })
  t.is(old.session, '')
  t.is((await device.refresh()).status, 200)
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
