import test from 'ava'
import { decodeJwt } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { CookieJar } from 'tough-cookie'
import { boundSessionAcr } from '../../src/accounts/acr.ts'
import { sessionBindingName } from '../../src/bindings/session-claims.ts'
import { createRelyingOrigins } from '../../src/session-binding/relying-origins.ts'
import { createStatementCounter } from '../support/counting.ts'
import { createPerson, newKey, obtainCode, type Person, post, refreshing } from '../support/flow.ts'
import { api, email, password, useTestServer } from '../support/server.ts'
import { behindProxy, browserFetch, newId } from '../support/token-binding.ts'

const server = useTestServer(test, behindProxy)
const redirect_uri = 'https://app.example/callback'
let client: ClientMetadata
let parameters: Record<string, string>

test.before(async () => {
  client = await server.addClient({ application_type: 'web', redirect_uris: [redirect_uri] })
  parameters = {
    client_id: client.client_id,
    response_type: 'code',
    redirect_uri,
    scope: 'openid',
    code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
    code_challenge_method: 'S256',
  }
})

const withoutTokenBinding = globalThis.fetch
const elsewhere: [string, () => typeof fetch][] = [
  ['on a connection with another key', () => browserFetch(newId())],
  ['on a connection without Token Binding', () => withoutTokenBinding],
]

/** A person at a browser; `withCookies` is whoever has the cookies, on connections of their own. */
function createVictim(fetch = browserFetch(newId())) {
  const jar = new CookieJar()
  return {
    owner: createPerson(server, { fetch, jar }),
    withCookies: async (theirs: typeof fetch) =>
      createPerson(server, { fetch: theirs, jar: await jar.clone() }),
  }
}

/** What /authorize says without a page: a code for whoever is signed in, else login_required. */
async function silently({ browser }: Person): Promise<string> {
  const query = new URLSearchParams({ ...parameters, prompt: 'none' })
  const { url } = await browser.visit(`${server.issuer}/authorize?${query}`, {
    until: redirect_uri,
  })
  return url.searchParams.get('error') ?? 'signed in'
}

async function signOut({ browser }: Person): Promise<void> {
  const page = await browser.visit(`${server.issuer}/session/end`)
  // The page has its buttons beside the form.
  const html = page.html.replace('</form>', '<button>Sign out</button></form>')
  await browser.submit({ ...page, html }, 'Sign out', { logout: 'yes' })
}

for (const [name, theirs] of elsewhere) {
  test(`a good cookie ${name} is no session, and its owner stays signed in`, async (t) => {
    const { owner, withCookies } = createVictim()
    await owner.authorize(parameters)
    const thief = await withCookies(theirs())
    t.is(await silently(thief), 'login_required')
    t.is(await silently(owner), 'signed in')
  })

  test(`a good cookie ${name} signs nobody out`, async (t) => {
    const { owner, withCookies } = createVictim()
    await owner.authorize(parameters)
    await signOut(await withCookies(theirs()))
    t.is(await silently(owner), 'signed in')
  })

  test(`starts another session for a sign-in with the cookie ${name}`, async (t) => {
    const { owner, withCookies } = createVictim()
    await owner.authorize(parameters)
    const thief = await withCookies(theirs())
    await thief.authorize(parameters)
    await signOut(thief)
    t.is(await silently(owner), 'signed in')
  })
}

test.serial('the log has the session that was refused, and not its cookie', async (t) => {
  const { owner, withCookies } = createVictim()
  await owner.authorize(parameters)
  const thief = await withCookies(withoutTokenBinding)
  const before = server.logged.length
  await silently(thief)
  const events = server.logged.slice(before).map((line) => JSON.parse(line))
  const refused = events.find(({ event }) => event === 'session_unproven')
  t.is(refused.level, 40)
  t.truthy(refused.sessionUid)
  t.deepEqual(
    Object.keys(refused).filter((name) => /cookie|tbh/.test(name)),
    [],
  )
})

test('continues a session from a browser without Token Binding without it', async (t) => {
  const { owner, withCookies } = createVictim(withoutTokenBinding)
  await owner.authorize(parameters)
  t.is(await silently(owner), 'signed in')
  t.is(await silently(await withCookies(browserFetch(newId()))), 'signed in')
})

test('signing in again binds a session that was not bound', async (t) => {
  const { owner, withCookies } = createVictim(withoutTokenBinding)
  await owner.authorize(parameters)
  const bound = await withCookies(browserFetch(newId()))
  await bound.authorize({ ...parameters, prompt: 'login' })
  t.is(await silently(bound), 'signed in')
  t.is(await silently(owner), 'login_required')
})

test('one key holds several sessions, and ending one leaves the others', async (t) => {
  const home = browserFetch(newId())
  const { owner: first } = createVictim(home)
  const { owner: second } = createVictim(home)
  await first.authorize(parameters)
  await second.authorize(parameters)
  await signOut(first)
  t.is(await silently(first), 'login_required')
  t.is(await silently(second), 'signed in')
})

// What is told of it

const tokensOf = async (person: Person) => {
  const { exchange } = await obtainCode(person, client, {
    redirect_uri,
    scope: 'openid offline_access read',
    prompt: 'consent',
    acr_values: boundSessionAcr,
    resource: api,
  })
  const key = await newKey()
  const { body } = await post(server, '/token', { ...exchange, resource: api }, { key })
  const { body: next } = await post(
    server,
    '/token',
    { ...refreshing(client, body.refresh_token), resource: api },
    { key },
  )
  return [body, next]
}

for (const [name, fetch, binding, words] of [
  [
    'bound',
    browserFetch(newId()),
    'token-binding',
    /Locked to a key .*<code>Token Binding [\w-]{8}…/,
  ],
  ['unbound', withoutTokenBinding, undefined, /Not locked to a key/],
] as const) {
  test(`tokens and the page of the person say of an ${name} session what it is`, async (t) => {
    const { owner } = createVictim(fetch)
    for (const tokens of await tokensOf(owner)) {
      t.like(decodeJwt(tokens.access_token), { [sessionBindingName]: binding })
      t.like(decodeJwt(tokens.id_token), { [sessionBindingName]: binding })
    }
    const { html } = await owner.browser.visit(`${server.issuer}/security/sessions`)
    const [line] = html.split('this browser')[1]?.split('</li>') ?? []
    t.regex(line ?? '', words)
  })
}

test('tokens of a session that was bound later say so from then on', async (t) => {
  const { owner, withCookies } = createVictim(withoutTokenBinding)
  await owner.authorize(parameters)
  const bound = await withCookies(browserFetch(newId()))
  await bound.authorize({ ...parameters, prompt: 'login' })
  const [tokens] = await tokensOf(bound)
  t.like(decodeJwt(tokens.id_token), {
    [sessionBindingName]: 'token-binding',
    acr: boundSessionAcr,
  })
})

test('over plain http no browser is offered a key', async (t) => {
  const offers: (string | null)[] = []
  const watching: typeof globalThis.fetch = async (url, init) => {
    const response = await fetch(url, init)
    offers.push(response.headers.get('secure-session-registration'))
    return response
  }
  const { owner } = createVictim(watching)
  t.true((await owner.authorize(parameters)).searchParams.has('code'))
  t.true(offers.length > 3)
  t.deepEqual(
    offers.filter((offer) => offer !== null),
    [],
  )
})

test('shows where the user is, and not where the proxy is', async (t) => {
  const behind: typeof globalThis.fetch = (url, init) => {
    const headers = new Headers(init?.headers)
    headers.set('x-forwarded-for', '198.51.100.7, 192.0.2.7')
    return fetch(url, { ...init, headers })
  }
  const { owner } = createVictim(behind)
  await owner.authorize(parameters)
  const { html } = await owner.browser.visit(`${server.issuer}/security/sessions`)
  const [line] = html.split('this browser')[1]?.split('</li>') ?? []
  t.regex(line ?? '', /from the network 192\.0\.2\.0\/24</)
})

// Interactions

async function beginLogin() {
  const victim = createVictim()
  const { browser } = victim.owner
  const url = `${server.issuer}/authorize?${new URLSearchParams(parameters)}`
  return { ...victim, browser, page: await browser.visit(url) }
}

const credentials = { email, password }

for (const [name, theirs] of elsewhere) {
  test(`the page of an interaction is not shown ${name}`, async (t) => {
    const { page, browser, withCookies } = await beginLogin()
    t.is((await browser.visit(page.url)).status, 200)
    t.is((await (await withCookies(theirs())).browser.visit(page.url)).status, 400)
  })

  test(`a login is not accepted ${name}`, async (t) => {
    const { page, browser, withCookies } = await beginLogin()
    const thief = await withCookies(theirs())
    t.is((await thief.browser.submit(page, 'Sign in', credentials)).status, 400)
    t.is((await browser.submit(page, 'Sign in', credentials)).status, 200)
  })

  test(`what a login began is not resumed ${name}`, async (t) => {
    const { page, browser, withCookies } = await beginLogin()
    const until = `${server.issuer}/authorize/`
    const { url: resume } = await browser.submit(page, 'Sign in', credentials, { until })
    t.true(resume.href.startsWith(until))
    t.is((await (await withCookies(theirs())).browser.visit(resume)).status, 400)
    t.is((await browser.visit(resume)).status, 200)
  })
}

const counter = createStatementCounter()
let now = 0
const originsServer = useTestServer(test, {}, { wrap: counter.wrap, now: () => now })

test.serial('reads the clients once for many requests, and no others than it names', async (t) => {
  const web = { application_type: 'web' } as const
  await originsServer.addClient({ ...web, redirect_uris: ['https://other.example/callback'] })
  await originsServer.addClient({
    ...web,
    redirect_uris: ['https://rp.example/callback', 'https://rp.example/other'],
    session_policy: { federation: true },
  })
  const read = createRelyingOrigins(originsServer.storage.clients, { now: () => now })
  counter.names.length = 0
  t.deepEqual(await Promise.all([read(), read(), read()]), Array(3).fill(['https://rp.example']))
  t.deepEqual(counter.names, ['client-federated-redirect-uris'])

  await originsServer.addClient({
    ...web,
    redirect_uris: ['https://later.example/callback'],
    session_policy: { federation: true },
  })
  t.deepEqual(await read(), ['https://rp.example'])
  now += 60_000
  t.deepEqual(await read(), ['https://later.example', 'https://rp.example'])
})

test.serial('answers the document without reading all clients', async (t) => {
  counter.names.length = 0
  const url = `${originsServer.issuer}/.well-known/device-bound-sessions`
  const answers = await Promise.all(Array.from({ length: 20 }, () => fetch(url)))
  t.true(answers.every(({ status }) => status === 200))
  t.true(counter.names.length <= 1)
})
