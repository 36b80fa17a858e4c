import { hash, randomBytes } from 'node:crypto'
import test from 'ava'
import { calculateJwkThumbprint, decodeJwt } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { makeTicket } from '../../packages/verify/lib/ticket.ts'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { boundSessionAcr, pageKeySessionAcr, passwordAcr } from '../../src/accounts/acr.ts'
import { sessionBindingName } from '../../src/bindings/session-claims.ts'
import { secretsOf } from '../../src/engine/engine-keys.ts'
import { allow, createDevice, letMomentPass, signInAt } from '../support/device.ts'
import { newKey, post } from '../support/flow.ts'
import { authorizationUrl, begin, interact } from '../support/journey.ts'
import {
  challengeIn,
  createPageScript,
  pageChallengeOf,
  registerByPage,
  type SignedInByPage,
  signInByPage,
} from '../support/page-key.ts'
import { query } from '../support/query.ts'
import { startSecondNode } from '../support/second-node.ts'
import { useTestServer } from '../support/server.ts'
import { trust } from '../support/trust.ts'
import type { Page, UserAgent } from '../support/user-agent.ts'
import { refreshProof, registrationProof } from '../support/verify/dbsc.ts'
import { makeKey, type TestKey } from '../support/verify/keys.ts'

const secret = randomBytes(32).toString('hex')
const server = useTestServer(test, { HOLDFAST_TLS: 'on', HOLDFAST_SECRET: secret })
const cookie = '__Host-holdfast_page_key'
const callback = 'https://rp.example/callback'
const verifier = randomBytes(32).toString('base64url')
let client: ClientMetadata

test.before(async () => {
  await trust(server)
  client = await server.addClient({ application_type: 'web', redirect_uris: [callback] })
})

const request = (more: Record<string, string> = {}) => ({
  client_id: client.client_id,
  redirect_uri: callback,
  scope: 'openid',
  code_challenge: hash('sha256', verifier, 'base64url'),
  ...more,
})
const authorize = (agent: UserAgent, more: Record<string, string> = {}, headers = {}) =>
  agent.get(authorizationUrl(server.issuer, request(more)), headers)

const isCode = ({ location }: Page) => new URL(location ?? '').searchParams.has('code')
const isSignIn = ({ location }: Page) => location?.includes('/interaction/') ?? false
const errorOf = ({ location }: Page) => new URL(location ?? '').searchParams.get('error')
const codeOf = (page: Page) => JSON.parse(page.text).error
const arriving = (site: string) => ({ 'sec-fetch-dest': 'document', 'sec-fetch-site': site })
const isBetween = ({ status, text }: Page) => status === 200 && text.includes('data-next=""')
const isBetweenAgain = ({ status, text }: Page) => status === 200 && text.includes('?again=')
const withoutProof = ({ agent }: SignedInByPage['script']) => agent.copy((name) => name !== cookie)

async function uidOf({ key }: { key: TestKey }): Promise<string> {
  const jkt = await calculateJwkThumbprint(key.publicJwk)
  const [row] = await query(server.databaseUrl, 'select uid from session_bindings where jkt = $1', [
    jkt,
  ])
  return String(row?.uid)
}

async function methodOf(uid: string) {
  const { binding } = (await server.storage.browserSessions.find(uid)) ?? {}
  return binding?.method
}

/** Signed in, with a page key, and with an app that was allowed. */
async function signedIn(more: Record<string, string> = {}): Promise<SignedInByPage> {
  const person = await signInByPage(server, request(more))
  await allow(person.consent)
  await letMomentPass(server.databaseUrl, await uidOf(person.script))
  return person
}

/** The session of a sign-in whose proof was refused has no key. */
async function isUnbound(person: SignedInByPage): Promise<boolean> {
  await allow(person.consent)
  return !person.resumed.headers.get('set-cookie')?.includes(cookie)
}

test('the response to a sign-in binds the session to the key of its page', async (t) => {
  const { resumed, script } = await signInByPage(server, request())
  const uid = await uidOf(script)
  t.is(await methodOf(uid), 'page-key')
  t.regex(
    resumed.headers.get('set-cookie') ?? '',
    /__Host-holdfast_page_key=[^;]+; Path=\/; Secure; HttpOnly; SameSite=Lax/,
  )
})

test('accepts a session with a page key by its bound cookie, and rejects it without', async (t) => {
  const { script } = await signedIn()
  t.true(isCode(await authorize(script.agent)))
  t.true(isSignIn(await authorize(withoutProof(script))))
  t.is(errorOf(await authorize(withoutProof(script), { prompt: 'none' })), 'login_required')
  t.true(isCode(await authorize(script.agent)), 'its owner is still in')
})

test('a form without a page key leaves the session unbound', async (t) => {
  const { device, consent, offer } = await signInAt(server, request())
  await allow(consent)
  t.false(offer.headers.get('set-cookie')?.includes(cookie))
  t.true(isCode(await authorize(device.agent)))
})

for (const [title, proof] of [
  ['of another page', (_: string, key: TestKey) => registrationProof({ jti: 'x.y.z' }, {}, key)],
  [
    'whose signature is by another key',
    (jti: string, key: TestKey) => registrationProof({ jti }, { jwk: makeKey().publicJwk }, key),
  ],
  [
    'of another type',
    (jti: string, key: TestKey) => registrationProof({ jti }, { typ: 'dpop+jwt' }, key),
  ],
  ['without its key', (jti: string, key: TestKey) => refreshProof({ jti }, {}, key)],
  ['with an RSA key', (jti: string) => registrationProof({ jti }, {}, makeKey('RS256'))],
  [
    'for another address',
    (jti: string, key: TestKey) => registrationProof({ jti, aud: 'https://a.example' }, {}, key),
  ],
] as const) {
  test(`binds nothing to a page key by a proof ${title}`, async (t) => {
    t.true(await isUnbound(await signInByPage(server, request(), { proof })))
  })
}

test('binds nothing to a page key by the challenge of another sign-in page', async (t) => {
  const { page } = await begin({ origin: server.issuer }, request())
  const jti = pageChallengeOf(page)
  const proof = (_: string, key: TestKey) => registrationProof({ jti }, {}, key)
  t.true(await isUnbound(await signInByPage(server, request(), { proof })))
})

test('registers no page key in a browser that does not say what leads to a request', async (t) => {
  t.true(await isUnbound(await signInByPage(server, request(), { site: '' })))
})

test('the first page key stays, with another sign-in in its session', async (t) => {
  const { script } = await signedIn()
  const uid = await uidOf(script)
  const again = await signInByPage(server, request({ prompt: 'login consent' }), {
    agent: script.agent,
  })
  t.falsy(again.resumed.headers.get('set-cookie')?.includes(cookie))
  t.falsy(again.resumed.headers.get('secure-session-registration'))
  t.is((await script.refresh()).status, 200)
  t.is(await uidOf(script), uid)
})

test('the browser’s own key of the same sign-in replaces the page key, once', async (t) => {
  const { script, resumed } = await signInByPage(server, request())
  const uid = await uidOf(script)
  const device = createDevice(server, script.agent)
  t.is((await device.register(resumed)).status, 200)
  t.is(await methodOf(uid), 'dbsc')
  const other = createDevice(server, script.agent)
  t.is(codeOf(await other.register(resumed)), 'dbsc_bound_already')
  t.is((await device.refresh()).status, 200)
})

test('a session that the browser has bound takes no proof of a page key', async (t) => {
  const { script, resumed, consent } = await signInByPage(server, request())
  const uid = await uidOf(script)
  const device = createDevice(server, script.agent)
  await device.register(resumed)
  await allow(consent)
  await letMomentPass(server.databaseUrl, uid)
  const byPage = script.agent.copy((name) => name !== '__Host-holdfast_bound')
  t.true(isSignIn(await authorize(byPage)))
  t.is((await script.ask()).status, 400)
  t.true(isCode(await authorize(script.agent)))
})

test('a page key is replaced by the offer of its own sign-in only', async (t) => {
  const { script, resumed } = await signInByPage(server, request())
  const uid = await uidOf(script)
  const text = "update session_bindings set bound_at = now() - interval '4 minutes' where uid = $1"
  await query(server.databaseUrl, text, [uid])
  const device = createDevice(server, script.agent)
  t.is(codeOf(await device.register(resumed)), 'dbsc_bound_already')
  t.is(await methodOf(uid), 'page-key')
})

test('a page key never replaces a key of the browser', async (t) => {
  const { device, offer, consent } = await signInAt(server, request())
  await device.register(offer)
  await allow(consent)
  await signInByPage(server, request({ prompt: 'login consent' }), { agent: device.agent })
  t.is(await methodOf(device.session), 'dbsc')
  t.is((await device.refresh()).status, 200)
})

test('answers a refresh by a page with a challenge, and then with a bound cookie', async (t) => {
  const { script } = await signedIn()
  const asked = await script.ask()
  t.is(asked.status, 403)
  t.is(JSON.parse(asked.text).key, await calculateJwkThumbprint(script.key.publicJwk))
  const answer = await script.ask(refreshProof({ jti: challengeIn(asked) }, {}, script.key))
  t.is(answer.status, 200)
  t.is(JSON.parse(answer.text).seconds, 600)
  const proven = withoutProof(script)
  await proven.take(script.agent, cookie)
  t.true(isCode(await authorize(proven)))
})

test('rejects a proof of a page key that was used', async (t) => {
  const { script } = await signedIn()
  const proof = refreshProof({ jti: challengeIn(await script.ask()) }, {}, script.key)
  const answers = await Promise.all(Array.from({ length: 4 }, () => script.ask(proof)))
  t.is(answers.filter(({ status }) => status === 200).length, 1)
  t.is(codeOf(await script.ask(proof)), 'dbsc_replayed')
})

test('accepts several outstanding challenges of a page key, as two tabs have them', async (t) => {
  const { script } = await signedIn()
  const asked = [await script.ask(), await script.ask()]
  for (const each of asked.reverse()) {
    const proof = refreshProof({ jti: challengeIn(each) }, {}, script.key)
    t.is((await script.ask(proof)).status, 200)
  }
})

test('a thief with all cookies cannot prove the page key, and ends nothing', async (t) => {
  const { script } = await signedIn()
  const thief = createPageScript(server, withoutProof(script))
  const refused = await thief.refresh()
  t.is(refused.status, 403)
  t.is(codeOf(refused), 'dbsc_signature')
  t.is(refused.headers.get('set-cookie'), null)
  t.true(isSignIn(await authorize(thief.agent)))
  t.is((await script.refresh()).status, 200)
  const events = await query(
    server.databaseUrl,
    'select code from security_events where session_uid = $1 and kind = $2',
    [await uidOf(script), 'proof_refused'],
  )
  t.deepEqual(events, [{ code: 'dbsc_signature' }])
})

test('rejects the bound cookie of a page key in another session', async (t) => {
  const [ada, thief] = [await signedIn(), await signedIn()]
  const mixed = withoutProof(ada.script)
  await mixed.take(thief.script.agent, cookie)
  t.true(isSignIn(await authorize(mixed)))
})

test('rejects a refresh of a page key with the challenge of another session', async (t) => {
  const [ada, eve] = [await signedIn(), await signedIn()]
  const proof = refreshProof({ jti: challengeIn(await eve.script.ask()) }, {}, ada.script.key)
  t.is(codeOf(await ada.script.ask(proof)), 'dbsc_challenge')
})

for (const site of ['cross-site', 'same-site', 'none']) {
  test(`a navigation (${site}) without a proof gets one page that proves the page key`, async (t) => {
    const { script } = await signedIn()
    const stale = withoutProof(script)
    for (const prompt of ['none', 'consent']) {
      const page = await authorize(stale, { prompt }, arriving(site))
      t.true(isBetween(page))
      t.regex(
        page.headers.get('content-security-policy') ?? '',
        /script-src \S+\/assets\/pageKey\.\S+\.js;.*connect-src \S+\/dbsc\/refresh/,
      )
      const jti = /data-challenge="([^"]+)"/.exec(page.text)?.[1]
      const agent = stale.copy()
      const proof = refreshProof({ jti }, {}, script.key)
      t.is((await createPageScript(server, agent).ask(proof)).status, 200)
    }
    t.true(isSignIn(await authorize(stale, {}, arriving('same-origin'))), 'and no second')
  })
}

test('a frame gets no page that proves the page key', async (t) => {
  const { script } = await signedIn()
  const framed = { ...arriving('cross-site'), 'sec-fetch-dest': 'iframe' }
  const answer = await authorize(withoutProof(script), { prompt: 'none' }, framed)
  t.is(errorOf(answer), 'login_required')
})

test('pages in a session with a page key bring its script, others do not', async (t) => {
  const person = await signInByPage(server, request())
  t.regex(
    person.consent.page.text,
    /<script src="[^"]+" type="module" data-key="[\w-]{43}" data-challenge="[\w.-]+" data-seconds="5\d\d">/,
  )
  const unbound = await signInAt(server, request())
  t.false(unbound.consent.page.text.includes('data-key='))
})

test('sign-in pages keep the page key of the session that the browser has', async (t) => {
  const { script } = await signedIn()
  const { page } = await begin(
    { origin: server.issuer },
    request({ prompt: 'login' }),
    script.agent,
  )
  const jkt = await calculateJwkThumbprint(script.key.publicJwk)
  t.true(page.text.includes(`data-keep="${jkt}"`))
})

test('a sign-out removes the bound cookie and ends the page key', async (t) => {
  const { script } = await signedIn()
  const stolen = createPageScript(server, script.agent.copy(), script.key)
  const page = await script.agent.get(`${server.issuer}/session/end`)
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(page.text)?.[1] ?? ''
  const fields = { xsrf, logout: 'yes' }
  const done = await script.agent.post(`${server.issuer}/session/end/confirm`, fields)
  t.regex(done.headers.get('set-cookie') ?? '', /__Host-holdfast_page_key=;.*Max-Age=0/)
  t.is((await stolen.ask()).status, 400)
})

test('another person in the same browser has another page key', async (t) => {
  const { script } = await signedIn()
  const as = { email: 'eve@example.com', password: 'a password for eve' }
  await createAccounts({ store: server.storage.accounts }).add(as)
  const uid = await uidOf(script)
  const eve = await signInByPage(server, request({ prompt: 'login' }), {
    agent: script.agent,
    fields: as,
  })
  t.is(await server.storage.browserSessions.find(uid), undefined)
  t.is((await script.refresh(script.key)).status, 403)
  t.is((await eve.script.refresh()).status, 200)
})

test('a sign-in after a lost page key ends the session and has a new key', async (t) => {
  const { script } = await signedIn()
  const uid = await uidOf(script)
  const again = await signInByPage(server, request(), { agent: withoutProof(script) })
  t.is(await server.storage.browserSessions.find(uid), undefined)
  t.is((await again.script.refresh()).status, 200)
})

test('tokens name a page key by a value of its own, and no key', async (t) => {
  const { consent } = await signInByPage(server, request({ acr_values: 'urn:unknown' }))
  const arrived = await allow(consent)
  const code = arrived.searchParams.get('code') ?? ''
  const exchange = {
    grant_type: 'authorization_code',
    client_id: client.client_id,
    code,
    code_verifier: verifier,
    redirect_uri: callback,
  }
  const { body } = await post(server, '/token', exchange, { key: await newKey() })
  const claims = decodeJwt(body.id_token)
  t.is(claims[sessionBindingName], 'page-key')
  t.is(claims.acr, pageKeySessionAcr)
  t.false('cnf' in claims || 'dbsc_session' in claims)
})

const essential = (value: string) =>
  JSON.stringify({ id_token: { acr: { essential: true, value } } })

test('a page key does not meet the acr of a bound session', async (t) => {
  const { script } = await signedIn()
  const claims = essential(boundSessionAcr)
  t.is(errorOf(await authorize(script.agent, { claims })), 'unmet_authentication_requirements')
  for (const acr of [pageKeySessionAcr, passwordAcr]) {
    t.true(isCode(await authorize(script.agent, { claims: essential(acr) })))
  }
})

test('a client that requires a bound session does not accept a page key', async (t) => {
  const strict = await server.addClient({
    application_type: 'web',
    redirect_uris: [callback],
    session_policy: { required_acr: boundSessionAcr },
  })
  const { script } = await signedIn()
  const answer = await authorize(script.agent, { client_id: strict.client_id })
  t.is(errorOf(answer), 'unmet_authentication_requirements')
})

test('a client that wants no unbound sessions takes one with a page key for unbound', async (t) => {
  const strict = await server.addClient({
    application_type: 'web',
    redirect_uris: [callback],
    session_policy: { unbound: { max_age: 0, prompt_none: false } },
  })
  const { script } = await signedIn()
  const asked = { client_id: strict.client_id, prompt: 'none' }
  t.is(errorOf(await authorize(script.agent, asked)), 'login_required')
})

test('a sign-in that must have a bound session waits for the key of the browser', async (t) => {
  const claims = essential(boundSessionAcr)
  const { script, resumed } = await registerByPage(server, request({ claims }))
  const { agent } = script
  const proof = resumed.location ?? ''
  t.regex(proof, /\/proof$/)
  const waiting = agent.get(proof)
  await createDevice(server, agent).register(resumed)
  t.true(isBetweenAgain(await waiting))
  const page = await agent.follow(await agent.get(`${proof}?again=1`))
  t.regex(page.text, /Allow/)
})

test('a sign-in that must have a page key gets its code at once', async (t) => {
  const { consent } = await signInByPage(server, request({ claims: essential(pageKeySessionAcr) }))
  const page = await consent.agent.follow(consent.page)
  t.true(page.text.includes('Allow'))
})

test('a sign-in that must have a page key and gets none ends with an error', async (t) => {
  const claims = essential(pageKeySessionAcr)
  const { consent } = await signInByPage(server, request({ claims }), { proof: () => '' })
  let page = consent.page
  for (let count = 0; isBetweenAgain(page); count += 1) {
    page = await consent.agent.follow(await consent.agent.get(`${consent.url}?again=${count + 1}`))
  }
  t.is(errorOf(await consent.agent.follow(page)), 'unmet_authentication_requirements')
})

test('step-up has the page in between prove the page key', async (t) => {
  const careful = await server.addClient({
    application_type: 'web',
    redirect_uris: [callback],
    session_policy: { proof_max_age: 10 },
  })
  const { script } = await signedIn()
  const [secret] = secretsOf(server.keys.view(), 'session-binding') as [Buffer]
  const purpose = ['page key', await uidOf(script)]
  const older = makeTicket(secret, purpose, Date.now() - 30_000)
  await script.agent.jar.setCookie(`${cookie}=${older}; Path=/; Secure`, server.issuer)
  const { page, url } = await interact(
    script.agent,
    await authorize(script.agent, { client_id: careful.client_id }),
  )
  t.regex(url, /\/proof$/)
  t.regex(page.text, /data-key="[\w-]{43}".* data-next="\?again=1"/)
  t.is((await script.refresh()).status, 200)
  const resumed = await script.agent.get(`${url}?again=1`)
  t.regex((await script.agent.follow(resumed)).text, /Allow/)
})

test('shows at the account page that a page key holds the session', async (t) => {
  const { script } = await signedIn()
  const page = await script.agent.follow(
    await script.agent.get(`${server.issuer}/security/sessions`),
  )
  t.regex(page.text, /Locked to a key of this site’s pages/)
})

test('without page keys there is no script, and sessions that have one are not accepted', async (t) => {
  const { script } = await signedIn()
  await using off = await startSecondNode(server, {
    HOLDFAST_PAGE_KEY: 'off',
    HOLDFAST_SECRET: secret,
  })
  const headers = { cookie: await script.agent.jar.getCookieString(server.issuer) }
  const url = authorizationUrl(server.issuer, request({ prompt: 'none' }))
  const answer = await off.fetch(url, { headers, redirect: 'manual' })
  t.regex(answer.headers.get('location') ?? '', /error=login_required/)
  const begun = await off.fetch(authorizationUrl(server.issuer, request()), { redirect: 'manual' })
  const cookies = begun.headers.getSetCookie().map((each) => each.split(';')[0])
  const page = await off.fetch(`${server.issuer}${begun.headers.get('location')}`, {
    headers: { cookie: cookies.join('; ') },
  })
  t.is(page.status, 200)
  t.notRegex(await page.text(), /page_key|pageKey/)
})
