import { randomBytes } from 'node:crypto'
import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { CookieJar } from 'tough-cookie'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { freePort } from '../../src/net/free-port.ts'
import { createBrowser } from '../support/browser.ts'
import { callback, createPerson, obtainCode } from '../support/flow.ts'
import { email, password, publicClient, type TestServer, useTestServer } from '../support/server.ts'

/** Issuers over https, behind a proxy that is the fetch of this file. */
const origin = 'https://id.example.com'
const sibling = 'https://blog.example.com/'
const ports = [await freePort(), await freePort()] as const
const proxied = (port: number) => ({
  HOLDFAST_PORT: String(port),
  HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
})
const mallory = { email: 'mallory@example.com', password: 'a password of her own, long enough' }

function prepare({ base, port, server }: { base: string; port: number; server: TestServer }) {
  let client: ClientMetadata
  const cookieHeaders: string[] = []
  /** Bytes of the status line and the headers of each response. */
  const headBytes: number[] = []
  const fetch: typeof globalThis.fetch = async (input, init) => {
    cookieHeaders.push(new Headers(init?.headers).get('cookie') ?? '')
    const url = String(input).replace(origin, `http://127.0.0.1:${port}`)
    const response = await globalThis.fetch(url, init)
    const lines = [...response.headers].map((header) => header.join(': '))
    headBytes.push(['HTTP/1.1 200 See Other', ...lines, '', ''].join('\r\n').length)
    return response
  }
  const authorization = (parameters = {}) =>
    `${origin}${base}/authorize?${new URLSearchParams({
      client_id: client.client_id,
      redirect_uri: callback,
      response_type: 'code',
      scope: 'openid',
      code_challenge: 'x'.repeat(43),
      code_challenge_method: 'S256',
      ...parameters,
    })}`
  /** Whether somebody is signed in in the browser of these cookies. */
  const errorOf = async (jar: CookieJar) => {
    const browser = createBrowser({ fetch, jar })
    const { url } = await browser.visit(authorization({ prompt: 'none' }), { until: callback })
    return url.searchParams.get('error')
  }
  const signIn = (jar: CookieJar, credentials = { email, password }) =>
    obtainCode(createPerson(server, { fetch, jar, credentials }), client)
  const all = async (jar: CookieJar) => (await jar.serialize()).cookies

  test.before(async () => {
    client = await server.addClient(publicClient)
    await createAccounts({ store: server.storage.accounts }).add({ ...mallory, name: 'Mallory' })
  })

  /** What somebody has who has signed in and begun another sign-in, as a sibling host sets it. */
  async function plant(jar: CookieJar): Promise<{ interaction: URL; planted: Set<string> }> {
    const own = new CookieJar()
    const begun = await createBrowser({ fetch, jar: own }).visit(authorization())
    const uid = begun.url.pathname.split('/').at(-1) ?? ''
    const unfinished = await all(own)
    await signIn(own, mallory)
    for (const { key = '', value = '', path = '/' } of [...unfinished, ...(await all(own))]) {
      const engine = key
        .replace(/__(?:Host|Secure)-holdfast_/, '_')
        .replace(`.${uid}`, '')
        .replace(/_(?:resume|state)/, '_interaction$&')
      const secure = key.replace('__Host-', '__Secure-').replace(`.${uid}`, '')
      for (const name of [key, engine, secure]) {
        for (const at of new Set(['/', path, `${base}/authorize`, `${base}/interaction/${uid}`])) {
          const cookie = `${name}=${value}; Domain=example.com; Path=${at}; Secure`
          await jar.setCookie(cookie, sibling, { ignoreError: true })
        }
      }
    }
    const planted = (await all(jar)).filter(({ domain }) => domain === 'example.com')
    return { interaction: begun.url, planted: new Set(planted.map(({ key }) => key ?? '')) }
  }

  return { base, fetch, cookieHeaders, headBytes, authorization, errorOf, signIn, all, plant }
}

const places = [
  prepare({
    base: '',
    port: ports[0],
    server: useTestServer(test, { ...proxied(ports[0]), HOLDFAST_ISSUER: origin }),
  }),
  prepare({
    base: '/auth',
    port: ports[1],
    server: useTestServer(test, { ...proxied(ports[1]), HOLDFAST_ISSUER: `${origin}/auth` }),
  }),
]

test.serial('cookies have prefixes, and browsers come back over https', async (t) => {
  for (const { base, fetch, authorization, signIn, all } of places) {
    const jar = new CookieJar()
    await createBrowser({ fetch, jar }).visit(authorization())
    const begun = await all(jar)
    await signIn(jar)
    const kinds = new Set<string>()
    for (const { key = '', secure, httpOnly, domain } of [...begun, ...(await all(jar))]) {
      const prefix = base || key.endsWith('_state') ? '__Secure-holdfast_' : '__Host-holdfast_'
      t.true(key.startsWith(prefix) || key.startsWith('__Host-holdfast_browser.'), key)
      t.true(secure && httpOnly && domain === 'id.example.com', key)
      kinds.add(/holdfast_([a-z]+)/.exec(key)?.[1] ?? '')
    }
    for (const kind of ['session', 'interaction', 'resume', 'state']) t.true(kinds.has(kind), kind)
    const { headers } = await fetch(`${origin}${base}/.well-known/openid-configuration`)
    t.is(headers.get('strict-transport-security'), 'max-age=31536000')
  }
})

test.serial('cookies that a sibling host has planted have no effect', async (t) => {
  for (const { base, fetch, errorOf, plant } of places) {
    const jar = new CookieJar()
    const { interaction, planted } = await plant(jar)
    t.true(planted.size >= 12, [...planted].join(' '))
    t.is(await errorOf(jar), 'login_required')
    const browser = createBrowser({ fetch, jar })
    for (const url of [interaction, `${origin}${base}/authorize/${interaction.href.slice(-43)}`]) {
      const page = await browser.visit(url)
      t.true(page.status >= 400, String(url))
      t.false(page.html.includes('<form'))
    }
  }
})

test.serial('nor do they keep anyone from signing in', async (t) => {
  for (const { errorOf, signIn, plant } of places) {
    const jar = new CookieJar()
    await signIn(jar)
    await plant(jar)
    t.is(await errorOf(jar), 'interaction_required')
    const fresh = new CookieJar()
    await plant(fresh)
    t.truthy((await signIn(fresh)).code)
  }
})

test.serial('a state of another host before ours does not hide it', async (t) => {
  for (const { fetch, authorization } of places) {
    const jar = new CookieJar()
    const browser = createBrowser({ fetch, jar })
    const page = await browser.visit(authorization())
    const { pathname } = page.url
    for (const path of [pathname, `${pathname}/login`]) {
      for (const value of ['junk', randomBytes(200).toString('base64url')]) {
        const cookie = `__Secure-holdfast_state=${value}; Domain=example.com; Path=${path}; Secure`
        await jar.setCookie(cookie, sibling)
      }
    }
    const consent = await browser.submit(page, 'Sign in', { email, password }, { until: callback })
    t.true(consent.url.href.startsWith(callback) || consent.html.includes('>Allow<'))
  }
})

test.serial('ten tabs sign in, and no request has cookies of 8 KB', async (t) => {
  for (const { fetch, cookieHeaders, authorization } of places) {
    const jar = new CookieJar()
    const browser = createBrowser({ fetch, jar })
    cookieHeaders.length = 0
    const tabs = []
    for (let tab = 0; tab < 10; tab += 1) {
      const state = randomBytes(750).toString('base64url')
      tabs.push({ state, page: await browser.visit(authorization({ state })) })
    }
    const until = callback
    for (const { state, page } of tabs.slice(-8).toReversed()) {
      let next = await browser.submit(page, 'Sign in', { email, password }, { until })
      if (next.html.includes('>Allow<')) next = await browser.submit(next, 'Allow', {}, { until })
      t.is(next.url.searchParams.get('state'), state)
      t.truthy(next.url.searchParams.get('code'))
    }
    const longest = Math.max(...cookieHeaders.map((header) => header.length))
    t.log(`${longest} bytes of cookies at most`)
    t.true(longest < 8192)
  }
})

test.serial('no response of a sign-in has headers of more than 4 KB', async (t) => {
  for (const { fetch, headBytes, authorization } of places) {
    headBytes.length = 0
    for (let bytes = 0; bytes <= 1200; bytes += 75) {
      const browser = createBrowser({ fetch })
      const state = randomBytes(bytes).toString('base64url')
      const page = await browser.visit(authorization({ state, prompt: 'consent' }))
      const consent = await browser.submit(page, 'Sign in', { email, password })
      const { url } = await browser.submit(consent, 'Allow', {}, { until: callback })
      t.truthy(url.searchParams.get('code'))
    }
    t.true(Math.max(...headBytes) <= 4096, `${Math.max(...headBytes)} bytes`)
  }
})

test.serial('the first requests of a browser may be answered at once', async (t) => {
  for (const { fetch, authorization } of places) {
    const jar = new CookieJar()
    const tabs = Array.from({ length: 4 }, () => createBrowser({ fetch, jar }))
    const pages = await Promise.all(tabs.map((tab) => tab.visit(authorization())))
    for (const page of pages) t.true(page.html.includes('>Sign in<'))
  }
})
