// What attackers try with cookies, sign-ins, keys of browsers and logout tokens at a gate.
import { randomUUID } from 'node:crypto'
import test from 'ava'
import { decodeJwt, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import { WebSocket } from 'ws'
import {
  app,
  type BrowserGate,
  type GateBrowser,
  startBrowserGate,
} from '../support/gate-browsers.ts'
import { email, password, useTestServer } from '../support/server.ts'
import { makeKey } from '../support/verify/keys.ts'

const server = useTestServer(test)
const opened = new AsyncDisposableStack()
test.after.always(() => opened.disposeAsync())

/** A key that the gate takes for one of the provider's. */
let providerKey: Awaited<ReturnType<typeof generateKeyPair>>
/** Changes answers of the token endpoint. */
type Tokens = Record<string, unknown>
let onTokens = (body: Tokens): Tokens | Promise<Tokens> => body
/** What the gate has pushed to the provider, newest last. */
const pushed: URLSearchParams[] = []
/** Holds requests to the provider back. */
let gateKeeper: Promise<void> | undefined

const fetchWithKey: typeof globalThis.fetch = async (input, init) => {
  await gateKeeper
  const response = await fetch(input, init)
  const { pathname } = new URL(String(input))
  if (pathname === '/par') pushed.push(new URLSearchParams(String(init?.body)))
  if (pathname === '/jwks') {
    const { keys } = (await response.json()) as { keys: object[] }
    const own = { ...(await exportJWK(providerKey.publicKey)), kid: 'own', alg: 'ES256' }
    return Response.json({ keys: [...keys, own] })
  }
  if (pathname === '/token' && response.status === 200) {
    return Response.json(await onTokens((await response.json()) as Tokens))
  }
  return response
}

let it: BrowserGate
test.before(async () => {
  providerKey = await generateKeyPair('ES256')
  it = opened.use(
    await startBrowserGate(server, {
      openid: { perPerson: 3, trustedOrigins: ['https://partner.example'] },
      application: {
        routes: [
          { path: '/held', bound: true },
          { path: '/recent', maxAgeS: 60 },
        ],
      },
      options: { fetch: fetchWithKey },
      config: { limits: { signIns: 4 }, trustedProxies: ['127.0.0.1'] },
    }),
  )
})

const navigation = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }
const ownPage = { ...navigation, 'sec-fetch-site': 'same-origin' }
const script = { 'sec-fetch-mode': 'cors', 'sec-fetch-site': 'same-origin' }
const form = { 'content-type': 'application/x-www-form-urlencoded' }

async function signedIn(): Promise<GateBrowser> {
  const browser = it.newBrowser()
  await browser.signIn()
  return browser
}

const statusOf = async (browser: GateBrowser, path = '/a') =>
  (await browser.send(path, { headers: script })).status

/** The provider's answer, before the browser has delivered it. */
async function answered(
  browser = it.newBrowser(),
  path = '/a',
): Promise<{ browser: GateBrowser; url: URL }> {
  const until = `${app}/.gate/callback`
  let page = await browser.visit(app + path, { until })
  if (page.html.includes('>Sign in<')) {
    page = await browser.submit(page, 'Sign in', { email, password }, { until })
  }
  if (page.html.includes('>Allow<')) page = await browser.submit(page, 'Allow', {}, { until })
  return { browser, url: page.url }
}

const deliver = (browser: GateBrowser, { pathname, search }: URL) =>
  browser.send(pathname + search, { headers: navigation })

const codesOf = () =>
  it.gate.events.flatMap((event) => (event.type === 'sign_in_failed' ? [event.code] : []))

/** Answers of the provider that no session comes of. */
const answers: Record<
  string,
  (answer: { browser: GateBrowser; url: URL }) => Promise<Response> | Response
> = {
  'an answer that another browser has asked for (login CSRF)': ({ url }) =>
    deliver(it.newBrowser(), url),
  'an answer in a browser with a sign-in of its own': async ({ url }) => {
    const victim = it.newBrowser()
    await victim.send('/.gate/sign-in')
    return deliver(victim, url)
  },
  'another state': ({ browser, url }) => {
    url.searchParams.set('state', `${url.searchParams.get('state')}x`)
    return deliver(browser, url)
  },
  'the state of another slot': ({ browser, url }) => {
    const state = url.searchParams.get('state') ?? ''
    url.searchParams.set('state', `${(Number(state[0]) + 1) % 5}${state.slice(1)}`)
    return deliver(browser, url)
  },
  'two states': ({ browser, url }) => {
    url.searchParams.append('state', 'x')
    return deliver(browser, url)
  },
  'no state': ({ browser, url }) => {
    url.searchParams.delete('state')
    return deliver(browser, url)
  },
  'another issuer (mix-up)': ({ browser, url }) => {
    url.searchParams.set('iss', 'https://evil.example')
    return deliver(browser, url)
  },
  'no issuer': ({ browser, url }) => {
    url.searchParams.delete('iss')
    return deliver(browser, url)
  },
  'another code': ({ browser, url }) => {
    url.searchParams.set('code', 'A'.repeat(43))
    return deliver(browser, url)
  },
  'two codes': ({ browser, url }) => {
    url.searchParams.append('code', 'A'.repeat(43))
    return deliver(browser, url)
  },
  'a sign-in that was begun too long ago': ({ browser, url }) => {
    it.advance(601_000)
    return deliver(browser, url)
  },
  'a sign-in whose cookie was changed': async ({ browser, url }) => {
    const name = `__Host-gate-in-${url.searchParams.get('state')?.[0]}`
    const value = (await browser.cookie(name)) ?? ''
    const changed = value.slice(0, -8) + (value.endsWith('AAAAAAAA') ? 'BBBBBBBB' : 'AAAAAAAA')
    await browser.jar.setCookie(`${name}=${changed}; Path=/; Secure`, app)
    return deliver(browser, url)
  },
  'an answer that was delivered before': async ({ browser, url }) => {
    const copy = browser.copy()
    await deliver(browser, url)
    return deliver(copy, url)
  },
  'the code of another sign-in of this browser': async ({ browser, url }) => {
    const { url: other } = await answered(browser)
    other.searchParams.set('code', url.searchParams.get('code') ?? '')
    return deliver(browser, other)
  },
  'an ID token of another sign-in (nonce)': async ({ browser, url }) => {
    let first = ''
    onTokens = (body) => {
      first ||= String(body.id_token)
      return { ...body, id_token: first }
    }
    await deliver(browser, url)
    const { url: other, browser: victim } = await answered()
    return deliver(victim, other)
  },
  'an ID token whose signature was changed': ({ browser, url }) => {
    onTokens = (body) => ({
      ...body,
      id_token: String(body.id_token).replace(/.{8}$/, (end) =>
        end === 'AAAAAAAA' ? 'BBBBBBBB' : 'AAAAAAAA',
      ),
    })
    return deliver(browser, url)
  },
  'an ID token of an older sign-in than was asked for (max_age)': async () => {
    const { browser, url } = await answered(it.newBrowser(), '/recent')
    onTokens = async (body) => {
      const claims = decodeJwt(String(body.id_token))
      const older = new SignJWT({ ...claims, auth_time: Number(claims.auth_time) - 7200 })
      older.setProtectedHeader({ alg: 'ES256', kid: 'own' })
      return { ...body, id_token: await older.sign(providerKey.privateKey) }
    }
    return deliver(browser, url)
  },
  'no ID token': ({ browser, url }) => {
    onTokens = ({ id_token: _, ...body }) => body
    return deliver(browser, url)
  },
}

/** Of these the provider is asked nothing. */
const unknown =
  /^(?:an answer that another|an answer in|another state|the state|two states|no state|a sign-in)/

for (const [title, attack] of Object.entries(answers)) {
  test.serial(`signs nobody in with ${title}`, async (t) => {
    const before = codesOf().length
    try {
      const answer = await attack(await answered())
      t.is(answer.status, 400)
      t.is(answer.headers.getSetCookie().filter((each) => /^__Host-gate=[^;]/.test(each)).length, 0)
      const code = unknown.test(title) ? 'unknown_sign_in' : 'failed'
      t.deepEqual(codesOf().slice(before), [code])
    } finally {
      onTokens = (body) => body
    }
  })
}

test.serial('replaces a session that was planted before a sign-in', async (t) => {
  const attacker = await signedIn()
  const planted = (await attacker.cookie('__Host-gate')) ?? ''
  const { browser, url } = await answered()
  await browser.jar.setCookie(`__Host-gate=${planted}; Path=/; Secure`, app)
  const arrived = await deliver(browser, url)
  t.is(arrived.status, 303)
  for (const cookie of arrived.headers.getSetCookie()) {
    t.regex(cookie, /^__Host-gate[^;]*; Path=\/; Secure; HttpOnly; SameSite=Lax; Max-Age=\d+$/)
  }
  t.not(await browser.cookie('__Host-gate'), planted)
  t.is(await statusOf(browser), 200)
  // The planted session has ended: nobody can watch the person with it.
  t.is(await statusOf(attacker), 401)
})

test.serial('lets at most so many sign-ins end at one time', async (t) => {
  const arrived = [await answered(), await answered(), await answered()]
  const { promise, resolve } = Promise.withResolvers<void>()
  gateKeeper = promise
  const ending = arrived.map(({ browser, url }) => deliver(browser, url))
  t.is((await Promise.race(ending)).status, 503)
  gateKeeper = undefined
  resolve()
  t.deepEqual((await Promise.all(ending)).map(({ status }) => status).sort(), [303, 303, 503])
})

test.serial('postpones the renewal of one session where the answer is an error', async (t) => {
  const [first, second] = [await signedIn(), await signedIn()]
  it.advance(59 * 60_000)
  await Promise.all([first, second].map((each) => statusOf(each)))
  it.advance(2 * 60_000)
  const due = await first.send('/a', { headers: ownPage })
  t.is(due.status, 303)
  const { prompt, state = '', dpop_jkt: key = '' } = Object.fromEntries(pushed.at(-1) ?? [])
  t.is(prompt, 'none')
  t.is(key.length, 43)
  const error = new URLSearchParams({ error: 'server_error', state, iss: server.issuer })
  const failed = await first.send(`/.gate/callback?${error}`, { headers: navigation })
  t.is(failed.headers.get('location'), '/a')
  t.is((await first.send('/a', { headers: ownPage })).status, 200)
  t.is((await second.send('/a', { headers: ownPage })).status, 303)
  it.advance(60_000)
  t.is((await first.send('/a', { headers: ownPage })).status, 303)
})

test.serial('keeps few cookies, however many tabs begin to sign in', async (t) => {
  const browser = it.newBrowser()
  for (let tab = 0; tab < 9; tab += 1) await browser.send('/.gate/sign-in')
  const cookies = await browser.jar.getCookies(app)
  t.is(cookies.length, 5)
  t.true((await browser.jar.getCookieString(app)).length < 8000)
})

test.serial('lets so many sign-ins begin at one time, and no more', async (t) => {
  const { promise, resolve } = Promise.withResolvers<void>()
  gateKeeper = promise
  const startFrom = (address: string) =>
    it.newBrowser().send('/.gate/sign-in', { headers: { 'x-forwarded-for': address } })
  // Of one network half of them: all others still sign in.
  const flood = ['2001:db8::1', '2001:db8:0:0:1::2', '2001:DB8::3'].map(startFrom)
  t.is((await Promise.race(flood)).status, 503)
  const others = ['192.0.2.1', '192.0.2.2', '192.0.2.3'].map(startFrom)
  t.is((await Promise.race(others)).status, 503)
  gateKeeper = undefined
  resolve()
  for (const started of [flood, others]) {
    t.deepEqual((await Promise.all(started)).map(({ status }) => status).sort(), [303, 303, 503])
  }
  t.is((await startFrom('192.0.2.4')).status, 303, 'the places are free again')
})

test.serial('ends the oldest sessions of a person who has too many', async (t) => {
  const browsers = []
  for (let count = 0; count < 4; count += 1) {
    browsers.push(await signedIn())
    it.advance(1000)
  }
  it.advance(6000)
  t.deepEqual(await Promise.all(browsers.map((each) => statusOf(each))), [401, 200, 200, 200])
})

/** Cookies that are no session. */
const cookies: Record<string, (value: string) => string> = {
  'no code': (value) => `__Host-gate=${value.split('.')[0]}`,
  'another code': (value) => `__Host-gate=${value.slice(0, -4)}AAAA`,
  'another secret': (value) => `__Host-gate=AAAA${value.slice(4)}`,
  'a part more': (value) => `__Host-gate=${value}.x`,
  'another name': (value) => `__host-gate=${value}`,
  'the name without its prefix': (value) => `gate=${value}`,
  'another one of the same name before it': (value) => `__Host-gate=x; __Host-gate=${value}`,
  'another one of the same name': (value) => `__Host-gate=${value}; __Host-gate=x`,
}

for (const [title, change] of Object.entries(cookies)) {
  test.serial(`accepts no session cookie with ${title}`, async (t) => {
    const browser = await signedIn()
    const value = (await browser.cookie('__Host-gate')) ?? ''
    t.is((await it.fetch(`${app}/a`, { headers: { cookie: `__Host-gate=${value}` } })).status, 200)
    t.is((await it.fetch(`${app}/a`, { headers: { cookie: change(value) } })).status, 401)
  })
}

/** Requests with a session that a page of another site may have caused. */
const foreign: Record<string, Record<string, string>> = {
  'another site': { 'sec-fetch-site': 'cross-site' },
  'a neighbouring subdomain': { 'sec-fetch-site': 'same-site' },
  'another origin': { origin: 'https://evil.example' },
  'an origin that begins alike': { origin: `${app}.evil.example` },
  'another origin, and a lie of the same': {
    'sec-fetch-site': 'same-origin',
    origin: 'https://evil.example',
  },
  'an origin of the other scheme': { origin: app.replace('https', 'http') },
}

for (const [title, headers] of Object.entries(foreign)) {
  test.serial(`refuses a request by ${title}`, async (t) => {
    const browser = await signedIn()
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) {
      const { status } = await browser.send('/a', { method, headers, body: '' })
      t.is(status, 403, method)
    }
  })
}

test.serial('accepts requests by its own pages and by those of a trusted origin', async (t) => {
  const browser = await signedIn()
  for (const headers of [
    { 'sec-fetch-site': 'same-origin', origin: app },
    { 'sec-fetch-site': 'same-origin', origin: 'null' },
    { 'sec-fetch-site': 'cross-site', origin: 'https://partner.example' },
    { origin: app },
  ]) {
    t.is((await browser.send('/a', { method: 'POST', headers, body: '' })).status, 200)
  }
})

test.serial('joins no WebSocket of another origin to a session', async (t) => {
  const browser = await signedIn()
  const cookie = await browser.jar.getCookieString(app)
  const socket = new WebSocket(`ws://127.0.0.1:${it.gate.port}/socket`, {
    headers: { host: 'app.example', cookie, origin: 'https://evil.example' },
  })
  const { promise, resolve } = Promise.withResolvers<number | undefined>()
  socket.on('unexpected-response', (_request, response) => resolve(response.statusCode))
  socket.on('error', () => resolve(undefined))
  t.is(await promise, 403)
})

test.serial(
  'never sends a session along with a token of the client, nor its headers',
  async (t) => {
    const browser = await signedIn()
    const headers = {
      ...script,
      'x-holdfast-subject': 'root',
      'holdfast-identity': 'forged',
      signature: 'gate=:AAAA:',
    }
    t.is((await browser.send('/forged', { headers })).status, 200)
    const got = it.application.received.at(-1)
    t.not(got?.assertion?.identity?.claims.sub, 'root')
    t.false(JSON.stringify(got?.rawHeaders).includes('forged'.concat('"')))
    const token = { ...script, authorization: 'DPoP stolen', dpop: 'stolen' }
    t.is((await browser.send('/a', { headers: token })).status, 401)
    t.is((await browser.send('/a', { headers: { ...script, authorization: '' } })).status, 401)
  },
)

test.serial(
  'keeps the cookies of the gate from the application, and the other way round',
  async (t) => {
    const browser = await signedIn()
    await browser.jar.setCookie('own=1; Path=/', app)
    it.application.handlers.set('/set', (_request, response) => {
      response.setHeader('Set-Cookie', [
        '__Host-gate=x; Path=/',
        'own=2; Path=/',
        '__host-GATE-in-0=x',
      ])
      response.end()
    })
    const answer = await browser.send('/set', { headers: script })
    t.deepEqual(answer.headers.getSetCookie(), ['own=2; Path=/'])
    await browser.send('/a', { headers: script })
    const { rawHeaders = [] } = it.application.received.at(-1) ?? {}
    const at = rawHeaders.findIndex((each) => each.toLowerCase() === 'cookie')
    t.is(rawHeaders[at + 1], 'own=2')
  },
)

test.serial('answers below its own path itself, whatever is asked', async (t) => {
  const browser = await signedIn()
  const before = it.application.received.length
  for (const [method, path] of [
    ...[
      ['GET', '/.gate'],
      ['GET', '/.gate/x'],
      ['PUT', '/.gate/sign-in'],
    ],
    ...[
      ['GET', '/.gate/backchannel-logout'],
      ['GET', '/.gate/dbsc/refresh'],
    ],
  ] as const) {
    const { status } = await browser.send(path, { method, headers: ownPage })
    t.is(status, 404, path)
  }
  t.is((await browser.send('/.gate/sign-in?acr_values=x&prompt=none&max_age=0')).status, 303)
  t.is(it.application.received.length, before)
})

test.serial('keeps forms of its own pages only, and sends only what it has sealed', async (t) => {
  const body = 'transfer=all'
  for (const headers of [
    { ...navigation, 'sec-fetch-site': 'cross-site' },
    { ...navigation, 'sec-fetch-site': 'same-site' },
    { ...navigation, origin: 'https://evil.example' },
    { ...navigation },
  ]) {
    const init = { method: 'POST', headers: { ...headers, ...form }, body }
    const { status } = await it.newBrowser().send('/pay', init)
    t.is(status, 401)
  }
  const upload = { ...ownPage, 'content-type': 'multipart/form-data; boundary=x' }
  t.is((await it.newBrowser().send('/pay', { method: 'POST', headers: upload, body })).status, 401)
  const browser = await signedIn()
  await browser.jar.setCookie('__Host-gate-form-0=forged; Path=/; Secure', app)
  const sent = await browser.send('/.gate/continue?form=0')
  t.is(sent.headers.get('location'), '/')
})

/** Registrations and proofs that bind nothing. */
const keys: Record<string, (browser: GateBrowser) => Promise<Response>> = {
  'a key for a session that has one': async (browser) => {
    await browser.register()
    return browser.register(makeKey())
  },
  'the offer of another session': async (browser) => {
    const other = await signedIn()
    return browser.register(undefined, other.offers[0])
  },
  'an offer that is too old': (browser) => {
    it.advance(121_000)
    return browser.register()
  },
  'an offer that the gate has not made': (browser) =>
    browser.register(undefined, (browser.offers[0] ?? '').replaceAll(/"[^"]{8}/g, '"AAAAAAAA')),
  'an offer for another algorithm': (browser) => browser.register(makeKey('ES384')),
  'a proof by another key': async (browser) => {
    const { session_identifier: id } = (await (await browser.register()).json()) as {
      session_identifier: string
    }
    return browser.refresh(id, makeKey())
  },
}

for (const [title, attack] of Object.entries(keys)) {
  test.serial(`binds no session by ${title}`, async (t) => {
    const browser = await signedIn()
    const answer = await attack(browser)
    t.is(answer.status, 403)
    t.deepEqual(answer.headers.getSetCookie(), [])
  })
}

test.serial('rejects the bound cookie of another session', async (t) => {
  const [victim, attacker] = [await signedIn(), await signedIn()]
  await victim.register()
  await attacker.register()
  it.advance(4000)
  const session = await victim.cookie('__Host-gate')
  for (const value of [await attacker.cookie('__Host-gate-bound'), 'forged', '']) {
    const cookie = `__Host-gate=${session}; __Host-gate-bound=${value}`
    t.is((await it.fetch(`${app}/held`, { headers: { ...script, cookie } })).status, 401)
  }
  const alone = `__Host-gate-bound=${await victim.cookie('__Host-gate-bound')}`
  t.is((await it.fetch(`${app}/a`, { headers: { ...script, cookie: alone } })).status, 401)
  t.is(await statusOf(victim, '/held'), 200)
})

test.serial('lets a thief of a bound cookie end no session', async (t) => {
  const owner = await signedIn()
  await owner.register()
  it.advance(4000)
  const thief = owner.copy((name) => name === '__Host-gate')
  const out = { method: 'POST', headers: { ...ownPage, ...form }, body: '' }
  await thief.send('/.gate/sign-out', out)
  t.is(await statusOf(owner), 200)
  const again = owner.copy((name) => name === '__Host-gate')
  await deliver(again, (await answered(again)).url)
  t.is(await statusOf(owner), 200)
})

type Change = (claims: JWTPayload, header: Record<string, unknown>) => void

/** Logout tokens that end nothing. */
const logoutTokens: Record<string, Change> = {
  'no events': (claims) => delete claims.events,
  'another event': (claims) => Object.assign(claims, { events: { other: {} } }),
  'an event that is no object': (claims) =>
    Object.assign(claims, {
      events: { 'http://schemas.openid.net/event/backchannel-logout': true },
    }),
  'a nonce': (claims) => Object.assign(claims, { nonce: 'n' }),
  'neither sub nor sid': (claims) => delete claims.sub,
  'no jti': (claims) => delete claims.jti,
  'no iat': (claims) => delete claims.iat,
  'no exp': (claims) => delete claims.exp,
  'another audience': (claims) => Object.assign(claims, { aud: 'other' }),
  'another issuer': (claims) => Object.assign(claims, { iss: 'https://evil.example' }),
  'an end that has passed': (claims) => Object.assign(claims, { exp: Number(claims.iat) - 30 }),
  'a beginning long ago': (claims) =>
    Object.assign(claims, { iat: Number(claims.iat) - 3600, exp: Number(claims.iat) + 60 }),
  'the type of an access token': (_claims, header) => Object.assign(header, { typ: 'at+jwt' }),
  'the type of an ID token': (_claims, header) => Object.assign(header, { typ: 'JWT' }),
  'an unknown key': (_claims, header) => Object.assign(header, { kid: 'other' }),
}

async function logoutToken(subject: string, change: Change = () => {}): Promise<string> {
  const seconds = Math.floor(it.now() / 1000)
  const claims: JWTPayload = {
    ...{ iss: server.issuer, aud: it.clientId, sub: subject, jti: randomUUID() },
    ...{ iat: seconds, exp: seconds + 120 },
    events: { 'http://schemas.openid.net/event/backchannel-logout': {} },
  }
  const header = { alg: 'ES256', kid: 'own', typ: 'logout+jwt' }
  change(claims, header)
  return new SignJWT(claims).setProtectedHeader(header).sign(providerKey.privateKey)
}

const sendLogout = (...tokens: string[]) =>
  it.fetch(`${app}/.gate/backchannel-logout`, {
    method: 'POST',
    body: new URLSearchParams(tokens.map((token): [string, string] => ['logout_token', token])),
  })

const subjectOf = async (browser: GateBrowser) => {
  await browser.send('/a', { headers: script })
  return String(it.application.received.at(-1)?.assertion?.identity?.claims.sub)
}

for (const [title, change] of Object.entries(logoutTokens)) {
  test.serial(`ends no session by a logout token with ${title}`, async (t) => {
    const browser = await signedIn()
    const answer = await sendLogout(await logoutToken(await subjectOf(browser), change))
    t.is(answer.status, 400)
    t.is(await statusOf(browser), 200)
  })
}

test.serial('ends sessions by a logout token once', async (t) => {
  const browser = await signedIn()
  const token = await logoutToken(await subjectOf(browser))
  t.is((await sendLogout(token, token)).status, 400)
  t.is((await sendLogout()).status, 400)
  t.is((await sendLogout(`${token.split('.').slice(0, 2).join('.')}.`)).status, 400)
  t.is((await sendLogout('x'.repeat(20_000))).status, 413)
  t.is(await statusOf(browser), 200)
  t.is((await sendLogout(token)).status, 200)
  t.is(await statusOf(browser), 401)
  const next = await signedIn()
  t.is((await sendLogout(token)).status, 400)
  t.is(await statusOf(next), 200)
})
