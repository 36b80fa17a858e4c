// Browsers at a gate whose people sign in at a real server: what a jar of cookies can show.
import test from 'ava'
import { safeReturn } from '../../packages/gate/browser/requests.ts'
import { createSealer } from '../../packages/gate/browser/sealing.ts'
import { createSessionCheck } from '../../packages/gate/browser/session-check.ts'
import {
  createMemorySessionStore,
  RecentSessions,
  type Session,
  type SessionStore,
} from '../../packages/gate/browser/sessions.ts'
import {
  app,
  type BrowserGate,
  type GateBrowser,
  startBrowserGate,
} from '../support/gate-browsers.ts'
import { useTestServer } from '../support/server.ts'
import { until } from '../support/until.ts'

const delivered: string[] = []
const server = useTestServer(
  test,
  {},
  {
    // What the server sends to the gate by the back channel arrives there.
    guardedFetch: async (url, { form } = {}) => {
      delivered.push(form?.get('logout_token') ?? '')
      const { status } = await it.fetch(url, { method: 'POST', body: form ?? null })
      return { status, headers: new Map(), body: new Uint8Array() }
    },
  },
)
const opened = new AsyncDisposableStack()
test.after.always(() => opened.disposeAsync())

/** Counts what is asked of the store. */
const asked = { find: 0, touch: 0 }
const memory = createMemorySessionStore({ capacity: 1000 })
const sessions: SessionStore = {
  ...memory,
  find(...parameters) {
    asked.find += 1
    return memory.find(...parameters)
  },
  touch(...parameters) {
    asked.touch += 1
    return memory.touch(...parameters)
  },
}

const routes = [
  { path: '/public', access: 'public' },
  { path: '/staff', groups: ['staff'] },
  { path: '/fresh', maxAgeS: 300 },
  { path: '/strong', acrValues: ['urn:holdfast:acr:passkey'] },
  { path: '/held', bound: true },
]
let it: BrowserGate
test.before(async () => {
  it = opened.use(
    await startBrowserGate(server, {
      openid: { scopes: ['openid', 'email', 'profile', 'groups'], perPerson: 1000 },
      application: { routes },
      options: { sessions },
    }),
  )
})

const lastRequest = () => it.application.received.at(-1)
const navigation = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }
const ownPage = { ...navigation, 'sec-fetch-site': 'same-origin' }
const otherSite = { ...navigation, 'sec-fetch-site': 'cross-site' }
const script = { 'sec-fetch-mode': 'cors', 'sec-fetch-site': 'same-origin' }
const form = { 'content-type': 'application/x-www-form-urlencoded' }

async function signedIn(path = '/'): Promise<GateBrowser> {
  const browser = it.newBrowser()
  await browser.signIn(path)
  return browser
}

async function bound(): Promise<{ browser: GateBrowser; session: string }> {
  const browser = await signedIn()
  const answer = await browser.register()
  const { session_identifier: session } = (await answer.json()) as { session_identifier: string }
  return { browser, session }
}

test.serial('signs a person in, and shows the page that was asked for', async (t) => {
  const browser = it.newBrowser()
  const page = await browser.signIn('/notes?limit=3')
  t.is(page.status, 200, page.html)
  t.is(page.url.href, `${app}/notes?limit=3`)
  const { assertion, code, rawHeaders } = lastRequest() ?? {}
  t.is(code, undefined)
  const claims = assertion?.identity?.claims
  t.is(claims?.email, 'ada@example.com')
  t.is(claims?.client_id, it.clientId)
  t.is(claims?.iss, server.issuer)
  t.deepEqual(assertion?.identity?.methods, [])
  t.false(JSON.stringify(rawHeaders).includes('__Host-gate'))
})

test.serial('signs out everywhere, and hears it by the back channel', async (t) => {
  const browser = await signedIn()
  const other = browser.copy((name) => !name.startsWith('__Host-gate'))
  await other.signIn()
  t.is((await other.send('/a', { headers: script })).status, 200)
  const init = { method: 'POST', headers: { ...ownPage, ...form }, body: 'everywhere=yes' }
  const out = await browser.send('/.gate/sign-out', init)
  const [, to = ''] = /^0; url=(.*)$/.exec(out.headers.get('refresh') ?? '') ?? []
  t.true(to.startsWith(`${server.issuer}/session/end?`), to)
  const before = delivered.length
  const asking = await browser.visit(to)
  const button = 'Sign out everywhere in this browser'
  const done = await browser.submit(asking, button, { logout: 'yes' })
  t.is(done.url.href, `${app}/.gate/signed-out`)
  await until(async () => delivered.length > before)
  await until(async () => (await other.send('/a', { headers: script })).status === 401)
  // A logout token counts once.
  const repeated = {
    method: 'POST',
    body: new URLSearchParams({ logout_token: delivered[before] ?? '' }),
  }
  t.is((await it.fetch(`${app}/.gate/backchannel-logout`, repeated)).status, 400)
})

test.serial('redirects navigations only, and gives other requests a link', async (t) => {
  const browser = it.newBrowser()
  const page = await browser.send('/a?b=1', { headers: navigation })
  t.is(page.status, 303)
  t.is(page.headers.get('location'), '/.gate/sign-in?return=%2Fa%3Fb%3D1')
  for (const init of [
    { headers: script },
    { method: 'POST', headers: { ...script, ...form }, body: 'a=1' },
    { method: 'DELETE', headers: navigation },
    { method: 'POST', headers: { ...otherSite, ...form }, body: 'a=1' },
    { headers: { accept: 'application/json' } },
  ]) {
    const answer = await browser.send('/a', init)
    t.is(answer.status, 401)
    t.like(await answer.json(), { error: 'login_required', sign_in: `${app}/.gate/sign-in` })
  }
  t.is((await browser.send('/public/x', { headers: navigation })).status, 200)
})

test.serial('leads back to paths of the application only', async (t) => {
  const rules = { encodedSlash: 'refuse', doubleSlash: 'refuse', semicolon: 'refuse' } as const
  for (const path of [
    ...['https://evil.example/', '//evil.example', '/\\evil.example', '/%2f%2fevil.example', 'a'],
    ...['/.gate/sign-out', '/.gate', '/a/../b', `/${'a'.repeat(1600)}`, '/\tx', '/a//b', '', null],
    ...['javascript:alert(1)', 'http://app.example@evil.example/', '/é'],
  ]) {
    t.is(safeReturn(path, rules), '/', `${path}`)
  }
  t.is(safeReturn('/a?b=//c', rules), '/a?b=//c')
  t.is(safeReturn('//evil.example', { ...rules, doubleSlash: 'pass' }), '/')
  const page = await it.newBrowser().signIn('/.gate/sign-in?return=https://evil.example/')
  t.is(page.url.href, `${app}/`)
})

test.serial('keeps a small form over the sign-in, and sends it once', async (t) => {
  const browser = it.newBrowser()
  const body = `text=${encodeURIComponent('a "quoted" <text>\nand more')}&_method=x&%22%3E=y`
  const kept = await browser.send('/notes', {
    method: 'POST',
    headers: { ...ownPage, ...form },
    body,
  })
  t.is(kept.status, 303)
  const page = await browser.signIn(kept.headers.get('location') ?? '')
  t.is(page.url.pathname, '/.gate/continue', page.html)
  t.regex(page.html, /action="\/notes"/)
  t.true(page.html.includes('a &quot;quoted&quot; &lt;text&gt;\nand more</textarea>'))
  t.true(page.html.includes('name="&quot;&gt;"'))
  const again = await browser.send('/.gate/continue?form=0')
  t.is(again.headers.get('location'), '/')

  const large = `text=${'x'.repeat(3000)}`
  const init = { method: 'POST', headers: { ...ownPage, ...form }, body: large }
  t.is((await it.newBrowser().send('/notes', init)).status, 413)
})

test.serial('asks for the groups, the strength and the age that a route names', async (t) => {
  const browser = await signedIn()
  t.is((await browser.send('/staff', { headers: navigation })).status, 403)
  await server.storage.accounts.change(String(lastRequest()?.assertion?.identity?.claims.sub), {
    groups: ['staff'],
  })
  const member = await signedIn('/staff')
  t.is((await member.send('/staff', { headers: script })).status, 200)
  t.deepEqual(lastRequest()?.assertion?.identity?.claims.groups, ['staff'])

  // Another sign-in is asked for, and what the provider does not have is not asked for again.
  const stronger = await member.send('/strong', { headers: navigation })
  t.is(stronger.headers.get('location'), '/.gate/sign-in?return=%2Fstrong')
  const link = await member.send('/strong', { method: 'PUT', headers: script })
  t.like(await link.json(), {
    error: 'insufficient_user_authentication',
    sign_in: `${app}/.gate/sign-in?for=%2Fstrong&method=PUT`,
  })
  const started = await member.send('/.gate/sign-in?for=%2Fstrong&method=PUT&return=/notes')
  t.is(started.status, 303)
  t.is((await member.send('/fresh', { headers: navigation })).status, 200)
  it.advance(311_000)
  const stale = await member.send('/fresh', { headers: navigation })
  t.is(stale.headers.get('location'), '/.gate/sign-in?return=%2Ffresh')
  t.is((await member.send('/fresh', { headers: script })).status, 401)
})

test.serial('refuses a route for bound sessions to a browser that registers no key', async (t) => {
  const browser = await signedIn()
  const waiting = await browser.send('/held', { headers: navigation })
  t.is(waiting.status, 503)
  t.is(waiting.headers.get('refresh'), '1')
  t.is((await browser.send('/held', { headers: script })).status, 403)
  it.advance(6000)
  const refused = await browser.send('/held', { headers: navigation })
  t.is(refused.status, 403)
  t.regex(await refused.text(), /binds its session to a key/)
  t.is((await browser.send('/a', { headers: script })).status, 200)
})

test.serial('ignores the cookie of a bound session without its key', async (t) => {
  const { browser, session } = await bound()
  t.is((await browser.send('/held', { headers: script })).status, 200)
  t.deepEqual(lastRequest()?.assertion?.identity?.methods, ['dbsc'])
  // Requests on their way while the key is registered show no proof: they open no such route.
  const early = browser.copy((name) => name === '__Host-gate')
  t.is((await early.send('/held', { headers: script })).status, 403)

  it.advance(4000)
  const thief = browser.copy((name) => name === '__Host-gate')
  t.is((await thief.send('/a', { headers: script })).status, 401)
  t.is((await thief.send('/a', { headers: navigation })).status, 303)
  // The whole jar is good until the proof ends, and not longer.
  const whole = browser.copy()
  t.is((await whole.send('/a', { headers: script })).status, 200)
  it.advance(600_000)
  t.is((await whole.send('/a', { headers: script })).status, 401)
  t.is((await whole.refresh(session)).status, 403)

  t.is((await browser.refresh(session)).status, 200)
  t.is((await browser.send('/a', { headers: script })).status, 200)
  // No other key, and no second offer.
  t.is((await thief.register(undefined, browser.offers[0])).status, 403)
  t.is(thief.offers.length, 0)
  // An arrival from elsewhere: one page of this origin, for which the browser proves its key.
  it.advance(600_000)
  const arrived = await browser.send('/.gate/sign-in?return=/a', { headers: otherSite })
  t.regex(await arrived.text(), /location\.replace\("\/a"\)/)
  t.is((await browser.send('/.gate/sign-in?return=/a', { headers: ownPage })).status, 303)
})

test.serial('asks the store nothing for a session that was seen a moment ago', async (t) => {
  const browser = await signedIn()
  await browser.send('/a', { headers: script })
  const before = { ...asked }
  for (let count = 0; count < 5; count += 1) {
    t.is((await browser.send('/a', { headers: script })).status, 200)
  }
  t.deepEqual(asked, before)
  it.advance(5000)
  await browser.send('/a', { headers: script })
  t.is(asked.find, before.find + 1)
  // What the gate has not made is not looked up.
  const forged = { cookie: `__Host-gate=${'A'.repeat(43)}.${'A'.repeat(43)}`, ...script }
  t.is((await it.newBrowser().send('/a', { headers: forged })).status, 401)
  t.is(asked.find, before.find + 1)
})

test.serial('ends sessions that nobody uses, and all after their time', async (t) => {
  const browser = await signedIn()
  for (let minutes = 0; minutes < 690; minutes += 50) {
    t.is((await browser.send('/a', { headers: script })).status, 200, `${minutes}`)
    it.advance(50 * 60_000)
  }
  t.is((await browser.send('/a', { headers: script })).status, 200)
  it.advance(20 * 60_000 - 4500)
  t.is((await browser.send('/a', { headers: script })).status, 200)
  it.advance(4500)
  t.is((await browser.send('/a', { headers: script })).status, 401)
  const idle = await signedIn()
  it.advance(61 * 60_000)
  t.is((await idle.send('/a', { headers: script })).status, 401)
})

test.serial('moves no absolute end by a renewal without a page', async (t) => {
  const browser = await signedIn()
  const before = await browser.cookie('__Host-gate')
  for (let minutes = 0; minutes < 700; minutes += 50) {
    t.is((await browser.send('/a', { headers: script })).status, 200, `${minutes}`)
    it.advance(50 * 60_000)
  }
  t.is((await browser.visit(`${app}/a`)).status, 200)
  t.not(await browser.cookie('__Host-gate'), before)
  it.advance(20 * 60_000)
  t.is((await browser.send('/a', { headers: script })).status, 401)
})

test('opens what it has sealed for one purpose, until its end, with each of its secrets', (t) => {
  const [old, next] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)]
  const before = createSealer([old])
  const sealed = before.seal('a', { x: 1 }, 1000)
  const rotated = createSealer([next, old])
  t.deepEqual(rotated.open('a', sealed, 999), { x: 1 })
  t.is(rotated.open('a', sealed, 1000), undefined)
  t.is(rotated.open('b', sealed, 999), undefined)
  t.is(createSealer([next]).open('a', sealed, 999), undefined)
  t.is(before.open('a', rotated.seal('a', {}, 1000), 999), undefined)
  const code = before.authenticate('a', 'text')
  t.true(rotated.isAuthentic('a', 'text', code))
  t.false(rotated.isAuthentic('b', 'text', code))
  t.false(createSealer([next]).isAuthentic('a', 'text', code))
  t.throws(() => createSealer([old, Buffer.alloc(31)]), { instanceOf: TypeError })
})

test('accepts no session of another application, whichever cookie names it', async (t) => {
  const sealer = createSealer([Buffer.alloc(32, 1)])
  const store = createMemorySessionStore({ capacity: 10 })
  const [mine, other] = [app, 'https://other.example'].map((origin) => ({
    origin,
    check: createSessionCheck({
      ...{ origin, sealer, store, idleMs: 60_000, proofMs: 60_000, now: () => 0 },
      recent: new RecentSessions({ staleMs: 0, limit: 10 }),
      dbsc: { provenAt: () => undefined },
      pageKeys: undefined,
    }),
  })) as [Checked, Checked]
  const fieldsFor = async ({ origin }: Checked, { check }: Checked) => {
    const { id, cookie } = check.create(60)
    const session: Session = {
      ...{ id, application: origin, issuer: 'i', subject: 's', claims: {}, startedAtMs: 0 },
      ...{ endsAtMs: 1, idleEndsAtMs: 60_000, renewAtMs: 0, askedAcr: [], sealed: '', version: 1 },
    }
    await store.insert(session, 10, 0)
    return ['Cookie', cookie.split(';')[0] ?? '']
  }
  const own = await fieldsFor(mine, mine)
  t.is((await mine.check.find(own))?.state, 'plain')
  t.is(other.check.idOf(own), undefined)
  t.is(await mine.check.find(await fieldsFor(other, mine)), undefined)
})

type Checked = Readonly<{ origin: string; check: ReturnType<typeof createSessionCheck> }>

test.serial(
  'renews a session without a page, and ends it where the provider has ended its own',
  async (t) => {
    const { browser, session } = await bound()
    it.advance(59 * 60_000)
    await browser.send('/a', { headers: script })
    it.advance(2 * 60_000)
    await browser.refresh(session)
    t.is((await browser.send('/a', { headers: script })).status, 200)
    const due = await browser.send('/a?x=1', { headers: ownPage })
    t.is(due.status, 303)
    t.is(new URL(due.headers.get('location') ?? '').origin, server.issuer)
    const page = await browser.visit(`${app}/a?x=1`)
    t.is(page.url.href, `${app}/a?x=1`)
    t.is(page.status, 200)
    const before = browser.offers.length
    t.is((await browser.send('/a', { headers: script })).status, 200)
    t.is(browser.offers.length, before)
    t.deepEqual(lastRequest()?.assertion?.identity?.methods, ['dbsc'])

    // Elsewhere the person has signed out.
    it.advance(59 * 60_000)
    await browser.refresh(session)
    await browser.send('/a', { headers: script })
    it.advance(2 * 60_000)
    await browser.jar.removeAllCookies()
    t.is((await browser.send('/a', { headers: script })).status, 401)
  },
)

test.serial('signs out here, by a form of this origin only', async (t) => {
  const browser = await signedIn()
  const thief = browser.copy()
  for (const headers of [otherSite, { ...navigation, origin: 'https://other.example' }, {}]) {
    const init = { method: 'POST', headers: { ...headers, ...form }, body: '' }
    t.is((await browser.send('/.gate/sign-out', init)).status, 403)
  }
  t.is((await browser.send('/.gate/sign-out', { headers: navigation })).status, 200)
  t.is((await browser.send('/a', { headers: script })).status, 200)
  const init = { method: 'POST', headers: { ...ownPage, ...form }, body: '' }
  const out = await browser.send('/.gate/sign-out', init)
  t.is(out.headers.get('location'), '/.gate/signed-out')
  t.is(await browser.cookie('__Host-gate'), undefined)
  // At once, in this process.
  t.is((await thief.send('/a', { headers: script })).status, 401)
})
