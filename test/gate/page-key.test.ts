// Browsers without DBSC at a gate: what the script of its page does, and what others try with it.
import test from 'ava'
import {
  createMemorySessionStore,
  type SessionStore,
} from '../../packages/gate/browser/sessions.ts'
import { createMemoryReplayStore } from '../../packages/verify/index.ts'
import {
  app,
  type BrowserGate,
  type GateBrowser,
  startBrowserGate,
} from '../support/gate-browsers.ts'
import { useTestServer } from '../support/server.ts'
import { refreshProof, registrationProof } from '../support/verify/dbsc.ts'
import { makeKey, type TestKey } from '../support/verify/keys.ts'

const server = useTestServer(test)
const opened = new AsyncDisposableStack()
test.after.always(() => opened.disposeAsync())

const memory = createMemorySessionStore({ capacity: 1000 })
let isStoreGone = false
const sessions: SessionStore = {
  ...memory,
  async find(...parameters) {
    if (isStoreGone) throw new Error('the store is gone')
    return memory.find(...parameters)
  },
  async bind(...parameters) {
    if (isStoreGone) throw new Error('the store is gone')
    return memory.bind(...parameters)
  },
}
const options = { sessions, replay: createMemoryReplayStore({ capacity: 1000 }) }
const routes = [
  { path: '/held', bound: true },
  { path: '/keyed', bound: 'page-key' },
]
let it: BrowserGate
let other: BrowserGate
let off: BrowserGate
test.before(async () => {
  const openid = { perPerson: 1000, pageKey: true }
  it = opened.use(await startBrowserGate(server, { openid, application: { routes }, options }))
  const { clientId } = it
  const { now } = it
  const shared = { options: { ...options, now } }
  other = opened.use(await startBrowserGate(server, { openid: { ...openid, clientId }, ...shared }))
  off = opened.use(await startBrowserGate(server, { openid: { clientId }, ...shared }))
})

const cookie = '__Host-gate-page-key'
const navigation = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }
const ownPage = { ...navigation, 'sec-fetch-site': 'same-origin' }
const script = { 'sec-fetch-mode': 'cors', 'sec-fetch-site': 'same-origin' }
const form = { 'content-type': 'application/x-www-form-urlencoded' }
const settlingMs = 3000
const proofMs = 600_000

const dataOf = (html: string, name: string) =>
  new RegExp(` data-${name}="([^"]*)"`).exec(html)?.[1]?.replaceAll('&amp;', '&') ?? ''
const errorOf = async (answer: Response) => ((await answer.json()) as { error: string }).error

/** What the script of the gate's pages sends. */
function scriptOf(browser: GateBrowser, key = makeKey('ES256')) {
  const post = (path: string, proof?: string, headers: Record<string, string> = script) =>
    browser.send(`/.gate/page-key/${path}`, {
      method: 'POST',
      headers: { ...headers, ...(proof && { 'secure-session-response': proof }) },
    })
  const challenge = async () => {
    const { headers } = await post('proof')
    return /^"([^"]+)"/.exec(headers.get('secure-session-challenge') ?? '')?.[1] ?? ''
  }
  return {
    ...{ browser, key, challenge },
    register: (jti: string, by = key) => post('registration', registrationProof({ jti }, {}, by)),
    send: post,
    prove: async (jti?: string, by = key) =>
      post('proof', refreshProof({ jti: jti ?? (await challenge()) }, {}, by)),
  }
}

/** Signed in, on the page that registers a key. */
async function arrived(path = '/') {
  const page = scriptOf(it.newBrowser())
  const { html, headers, url, status } = await page.browser.signIn(path)
  return { ...page, html, headers, url, status, challengeOfPage: dataOf(html, 'register') }
}

async function registered() {
  const page = await arrived()
  const answer = await page.register(page.challengeOfPage)
  if (answer.status !== 200) throw new Error(await answer.text())
  it.advance(settlingMs)
  return page
}

const statusOf = async (browser: Pick<GateBrowser, 'send'>, path = '/a') =>
  (await browser.send(path, { headers: script })).status

/** What the application was told of the last request. */
const methodsOf = async (browser: GateBrowser, path = '/a') => {
  const { status } = await browser.send(path, { headers: script })
  return status === 200 ? it.application.received.at(-1)?.assertion?.identity?.methods : status
}

test.serial('the page after a sign-in binds the session to its key, once', async (t) => {
  const page = await arrived('/notes?limit=3&b=1')
  t.is(page.status, 200)
  t.is(page.url.pathname, '/.gate/callback')
  t.is(dataOf(page.html, 'next'), '/notes?limit=3&b=1')
  const policy = page.headers?.get('content-security-policy') ?? ''
  t.true(
    policy.includes(`script-src ${app}/.gate/page-key.js; connect-src ${app}/.gate/page-key/;`),
  )
  t.true(JSON.stringify([...(page.headers ?? [])]).length < 4096)
  t.deepEqual(await methodsOf(page.browser), [])
  const answer = await page.register(page.challengeOfPage)
  t.is(answer.status, 200)
  t.regex(
    answer.headers.get('set-cookie') ?? '',
    /^__Host-gate-page-key=[^;]{80,140}; Path=\/; Secure; HttpOnly; SameSite=Lax; Max-Age=570$/,
  )
  t.deepEqual(await methodsOf(page.browser), ['page-key'])
  const bound = it.gate.events.findLast(({ type }) => type === 'session_bound')
  t.like(bound, { application: app, method: 'page-key' })
  // Neither another key nor the same proof brings a cookie.
  for (const key of [page.key, makeKey('ES256')]) {
    const again = await page.register(page.challengeOfPage, key)
    t.is(again.headers.get('set-cookie'), null)
    t.is(await errorOf(again), 'dbsc_bound_already')
  }
  t.is((await page.prove()).status, 200)
})

test.serial('a browser without scripts continues with a plain session', async (t) => {
  const { browser, html } = await arrived('/notes?a=1&b=2')
  t.true(html.includes('<noscript><meta http-equiv="refresh" content="0; url=/notes?a=1&amp;b=2">'))
  t.deepEqual(await methodsOf(browser), [])
})

test.serial('serves the script that pages include', async (t) => {
  const answer = await it.fetch(`${app}/.gate/page-key.js`)
  t.is(answer.headers.get('content-type'), 'text/javascript; charset=utf-8')
  t.regex(await answer.text(), /export function proven/)
})

const proofs: Record<string, (jti: string, key: TestKey) => string> = {
  'of another sign-in': (_, key) => registrationProof({ jti: foreign }, {}, key),
  'by another key than its own': (jti, key) =>
    registrationProof({ jti }, { jwk: makeKey('ES256').publicJwk }, key),
  'of another type': (jti, key) => registrationProof({ jti }, { typ: 'dpop+jwt' }, key),
  'without its key': (jti, key) => refreshProof({ jti }, {}, key),
  'with an RSA key': (jti) => registrationProof({ jti }, {}, makeKey('RS256')),
  'for another address': (jti, key) =>
    registrationProof({ jti, aud: `${app}/.gate/page-key/registration` }, {}, key),
}
let foreign = ''
for (const [title, proof] of Object.entries(proofs)) {
  test.serial(`binds nothing to the key of a page by a proof ${title}`, async (t) => {
    foreign = (await arrived()).challengeOfPage
    const { browser, key, send, challengeOfPage } = await arrived()
    const answer = await send('registration', proof(challengeOfPage, key))
    t.is(answer.status, 403)
    t.is(answer.headers.get('set-cookie'), null)
    t.like(it.gate.events.at(-1), { type: 'proof_refused', method: 'page-key' })
    t.deepEqual(await methodsOf(browser), [])
  })
}

test.serial(
  'binds nothing to the key of a page that comes a minute after the sign-in',
  async (t) => {
    const page = await arrived()
    it.advance(60_000)
    t.is(await errorOf(await page.register(page.challengeOfPage)), 'dbsc_challenge')
  },
)

test.serial('binds nothing to the key of a page by a challenge for a proof', async (t) => {
  const { challenge } = await registered()
  const page = await arrived()
  t.is(await errorOf(await page.register(await challenge())), 'dbsc_challenge')
})

for (const path of ['registration', 'proof']) {
  test.serial(`refuses a ${path} of a page key that no page of this origin has sent`, async (t) => {
    const page = path === 'proof' ? await registered() : await arrived()
    for (const headers of [
      { 'sec-fetch-site': 'same-site' },
      { 'sec-fetch-site': 'cross-site' },
      { origin: 'https://evil.example' },
      {},
    ]) {
      const jti = path === 'proof' ? await page.challenge() : page.challengeOfPage
      const proof = (path === 'proof' ? refreshProof : registrationProof)({ jti }, {}, page.key)
      const answer = await page.send(path, proof, headers as Record<string, string>)
      t.is(await errorOf(answer), 'cross_origin')
    }
  })
}

test.serial('ignores the cookie of a session with a page key without its proof', async (t) => {
  const { browser } = await registered()
  const thief = browser.copy((name) => name !== cookie)
  const answer = await thief.send('/a', { headers: script })
  t.is(answer.status, 401)
  t.like(await answer.json(), { error: 'login_required', sign_in: `${app}/.gate/sign-in` })
  const page = await thief.send('/a', { headers: ownPage })
  t.is(page.headers.get('location'), '/.gate/sign-in?return=%2Fa')
  t.is(await statusOf(browser), 200)
})

test.serial('ignores all cookies of a session with a page key after the proof', async (t) => {
  const { browser, prove } = await registered()
  const thief = browser.copy()
  it.advance(proofMs - settlingMs - 1000)
  t.is(await statusOf(thief), 200)
  it.advance(1000)
  t.is(await statusOf(thief), 401)
  t.is((await prove()).status, 200)
  t.is(await statusOf(browser), 200)
  t.is(await statusOf(thief), 401)
})

test.serial('a thief proves the key of a page by no other key, and ends nothing', async (t) => {
  const owner = await registered()
  const thief = scriptOf(owner.browser.copy((name) => name !== cookie))
  const refused = await thief.prove()
  t.is(refused.headers.get('set-cookie'), null)
  t.is(await errorOf(refused), 'dbsc_signature')
  t.like(it.gate.events.at(-1), { code: 'dbsc_signature', method: 'page-key' })
  // Nor by a sign-in of the thief's own.
  const page = await thief.browser.visit(`${app}/.gate/sign-in?proven`)
  t.is(page.url.pathname, '/.gate/callback')
  t.is(await statusOf(owner.browser), 200)
})

test.serial('rejects a proof of a page key that was used', async (t) => {
  const { send, challenge, key } = await registered()
  const proof = refreshProof({ jti: await challenge() }, {}, key)
  const answers = await Promise.all([1, 2, 3].map(() => send('proof', proof)))
  t.is(answers.filter(({ status }) => status === 200).length, 1)
  t.is(await errorOf(await send('proof', proof)), 'dbsc_replayed')
})

test.serial('rejects the challenge and the proof of a page key in another session', async (t) => {
  const [ada, eve] = [await registered(), await registered()]
  t.is(await errorOf(await ada.prove(await eve.challenge())), 'dbsc_challenge')
  const mixed = ada.browser.copy((name) => name !== cookie)
  await mixed.jar.setCookie(`${cookie}=${await eve.browser.cookie(cookie)}; Secure; Path=/`, app)
  t.is(await statusOf(mixed), 401)
})

test.serial(
  'one page in between proves the key of a page and opens the same address',
  async (t) => {
    const { browser, key } = await registered()
    it.advance(proofMs)
    for (const [query, end] of [
      ['return=%2Fa%3Fb%3D1', '/a?b=1'],
      ['return=%2Fa&form=0', '/.gate/continue?form=0'],
    ]) {
      const stale = browser.copy((name) => name !== cookie)
      const page = await stale.send(`/.gate/sign-in?${query}`, { headers: ownPage })
      t.is(page.status, 200)
      const html = await page.text()
      const next = dataOf(html, 'next')
      // Without a proof there is no second one.
      const without = await stale.send(next, { headers: ownPage })
      t.true(without.headers.get('location')?.startsWith(server.issuer))
      const proof = await scriptOf(stale, key).prove(dataOf(html, 'challenge'))
      t.is(proof.status, 200)
      t.is((await stale.send(next, { headers: ownPage })).headers.get('location'), end ?? '')
    }
  },
)

test.serial('a frame gets no page that proves the key of a page', async (t) => {
  const { browser } = await registered()
  it.advance(proofMs)
  const headers = { ...ownPage, 'sec-fetch-dest': 'iframe' }
  const answer = await browser.send('/.gate/sign-in?return=%2Fa', { headers })
  t.true(answer.headers.get('location')?.startsWith(server.issuer))
})

test.serial('the key of the browser replaces that of a page, once', async (t) => {
  const { browser, send } = await registered()
  t.is((await browser.register()).status, 200)
  t.deepEqual(await methodsOf(browser), ['dbsc'])
  t.is((await browser.register(makeKey())).status, 403)
  t.is((await send('proof')).status, 404)
  it.advance(settlingMs)
  t.is(await statusOf(browser.copy((name) => name !== '__Host-gate-bound')), 401)
})

test.serial('the key of a page never replaces that of the browser', async (t) => {
  const page = await arrived()
  t.is((await page.browser.register()).status, 200)
  t.is(await errorOf(await page.register(page.challengeOfPage)), 'dbsc_bound_already')
  t.deepEqual(await methodsOf(page.browser), ['dbsc'])
})

test.serial('the key of a page answers no refresh of DBSC', async (t) => {
  const { browser, key } = await registered()
  const [secret = ''] = (await browser.cookie('__Host-gate'))?.split('.') ?? []
  const id = Buffer.from(await crypto.subtle.digest('SHA-256', Buffer.from(secret)))
  const answer = await browser.refresh(id.toString('base64url'), key)
  t.is(((await answer.json()) as { continue?: boolean }).continue, false)
})

test.serial('routes say whether the key of a page is enough', async (t) => {
  const plain = await arrived()
  it.advance(5000)
  t.is(await statusOf(plain.browser, '/keyed'), 403)
  const { browser } = await registered()
  t.deepEqual(await methodsOf(browser, '/keyed'), ['page-key'])
  t.is(await statusOf(browser, '/held'), 403)
  await browser.register()
  t.deepEqual(await methodsOf(browser, '/held'), ['dbsc'])
  t.deepEqual(await methodsOf(browser, '/keyed'), ['dbsc'])
})

test.serial('a sign-out removes the proof of a page key and ends the key', async (t) => {
  const { browser, send } = await registered()
  const stolen = scriptOf(browser.copy())
  const init = { method: 'POST', headers: { ...ownPage, ...form }, body: '' }
  const out = await browser.send('/.gate/sign-out', init)
  t.true(out.headers.getSetCookie().some((each) => each.startsWith(`${cookie}=; `)))
  t.is((await send('proof')).status, 404)
  t.is((await stolen.send('proof')).status, 404)
})

test.serial('another sign-in keeps the session with its page key, and shows no page', async (t) => {
  const { browser, prove } = await registered()
  const before = await browser.cookie('__Host-gate')
  const page = await browser.visit(`${app}/.gate/sign-in?return=/a`)
  t.is(page.url.pathname, '/a')
  t.is(await browser.cookie('__Host-gate'), before)
  t.is((await prove()).status, 200)
})

test.serial('without the store nothing is registered and nothing proven', async (t) => {
  const [page, owner] = [await arrived(), await registered()]
  isStoreGone = true
  try {
    t.is((await page.register(page.challengeOfPage)).status, 503)
    t.is((await owner.send('proof')).status, 503)
  } finally {
    isStoreGone = false
  }
  t.is((await page.register(page.challengeOfPage)).status, 200)
})

test.serial('two gates with one secret and store take each other’s page keys', async (t) => {
  const { browser, challenge, key } = await registered()
  const at = async (gate: BrowserGate, path: string, more: Record<string, string> = {}) => {
    const headers = { ...script, ...more, cookie: await browser.jar.getCookieString(app) }
    return gate.fetch(app + path, { method: path === '/a' ? 'GET' : 'POST', headers })
  }
  t.is((await at(other, '/a')).status, 200)
  t.is(other.application.received.length, 1)
  const used = { 'secure-session-response': refreshProof({ jti: await challenge() }, {}, key) }
  t.is((await at(other, '/.gate/page-key/proof', used)).status, 200)
  t.is(await errorOf(await at(it, '/.gate/page-key/proof', used)), 'dbsc_replayed')
})

test.serial('a gate without page keys accepts none, and shows no page', async (t) => {
  const { browser } = await registered()
  const headers = { ...ownPage, cookie: await browser.jar.getCookieString(app) }
  const page = await off.fetch(`${app}/a`, { headers })
  t.is(page.headers.get('location'), '/.gate/sign-in?return=%2Fa')
  const begun = await off.fetch(`${app}/.gate/sign-in?return=%2Fa`, { headers })
  t.true(begun.headers.get('location')?.startsWith(server.issuer))
})
