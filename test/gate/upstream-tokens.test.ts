// The access token of a browser's session, for an application that verifies it itself.
import test from 'ava'
import { createMemorySessionStore } from '../../packages/gate/browser/sessions.ts'
import { createVerifier, type Verified, type Verifier } from '../../packages/verify/index.ts'
import {
  app,
  type BrowserGate,
  type GateBrowser,
  startBrowserGate,
} from '../support/gate-browsers.ts'
import { api, useTestServer } from '../support/server.ts'
import { until } from '../support/until.ts'

const server = useTestServer(test, { HOLDFAST_REFRESH_REUSE_SECONDS: '60' })
const opened = new AsyncDisposableStack()
test.after.always(() => opened.disposeAsync())

/** What happens to requests for tokens: the answer is lost, or is a refusal. */
let onRefresh: 'answer' | 'lose' | 'refuse' = 'answer'
let refreshes = 0
let isBearer = false

const fetchTokens: typeof globalThis.fetch = async (input, init) => {
  const isToken = new URL(String(input)).pathname === '/token'
  const isRefresh = isToken && String(init?.body).includes('grant_type=refresh_token')
  const response = await fetch(input, init)
  if (isRefresh) refreshes += 1
  if (isRefresh && onRefresh === 'refuse') {
    return Response.json({ error: 'invalid_grant' }, { status: 400 })
  }
  if (isRefresh && onRefresh === 'lose') {
    onRefresh = 'answer'
    throw new TypeError('the answer was lost')
  }
  if (!isToken || !response.ok) return response
  // To the gate, tokens are good for 40 seconds: no test has to wait for an hour to pass.
  const body = { ...((await response.json()) as object), expires_in: 40 }
  return Response.json(isBearer ? { ...body, token_type: 'Bearer' } : body)
}

const sessions = createMemorySessionStore({ capacity: 1000 })
const settings = {
  application: { mode: 'pass', upstreamToken: true },
  openid: { resource: api, scopes: ['openid', 'offline_access', 'read'], absoluteS: 2_592_000 },
  options: { sessions, fetch: fetchTokens },
}
let first: BrowserGate
let second: BrowserGate
let verifier: Verifier
const verified: Verified[] = []
const codes: string[] = []

test.before(async () => {
  first = opened.use(await startBrowserGate(server, settings))
  const { clientId } = first
  second = opened.use(
    await startBrowserGate(server, { ...settings, openid: { ...settings.openid, clientId } }),
  )
  for (const { application } of [first, second]) {
    verifier = createVerifier({
      ...{ issuer: server.issuer, audience: api, publicOrigin: application.url },
      now: first.now,
    })
    const check = verifier
    application.handlers.set('/notes', async (request, response) => {
      try {
        const { method = '', url = '', rawHeaders: headers } = request
        verified.push(await check.verify({ method, url, headers }))
      } catch (error) {
        codes.push((error as { code: string }).code)
      }
      response.setHeader('DPoP-Nonce', 'of-the-application')
      response.end()
    })
  }
})

const script = { 'sec-fetch-mode': 'cors', 'sec-fetch-site': 'same-origin' }

async function signedIn(): Promise<GateBrowser> {
  const browser = first.newBrowser()
  await browser.signIn('/first')
  return browser
}

async function statusAt({ fetch }: BrowserGate, browser: GateBrowser): Promise<number> {
  const cookie = await browser.jar.getCookieString(app)
  return (await fetch(`${app}/notes?a=1`, { headers: { ...script, cookie } })).status
}

/** Lets the access token of a session run out, for gates and applications. */
function advance(milliseconds: number): void {
  first.advance(milliseconds)
  second.advance(milliseconds)
}

test.serial('sends the token of the session with a proof by the key of the session', async (t) => {
  const browser = await signedIn()
  t.is(await statusAt(first, browser), 200)
  t.deepEqual(codes, [])
  const { claims, methods } = verified.at(-1) ?? {}
  t.deepEqual(methods, ['dpop'])
  t.is(claims?.scope, 'read')
  t.is(claims?.client_id, first.clientId)
  // A second request has a proof of its own, and another person another key.
  t.is(await statusAt(first, browser), 200)
  t.is(await statusAt(first, await signedIn()), 200)
  t.deepEqual(codes, [])
  const keys = verified.slice(-3).map((each) => JSON.stringify(each.claims.cnf))
  t.is(new Set(keys).size, 2)
})

test.serial('sends nothing of the session with a token of the client', async (t) => {
  const browser = await signedIn()
  const before = verified.length
  const cookie = await browser.jar.getCookieString(app)
  const stolen = { ...script, cookie, authorization: 'DPoP stolen', dpop: 'stolen' }
  t.is((await first.fetch(`${app}/notes`, { headers: stolen })).status, 401)
  const proof = { ...script, cookie, dpop: 'forged' }
  t.is((await first.fetch(`${app}/notes`, { headers: proof })).status, 200)
  t.is(verified.length, before + 1)
  t.deepEqual(codes, [])
})

test.serial('signs nobody in where the provider has bound no token', async (t) => {
  isBearer = true
  const browser = first.newBrowser()
  const page = await browser.signIn('/first')
  isBearer = false
  t.is(page.status, 400)
  t.is(await browser.cookie('__Host-gate'), undefined)
})

test.serial(
  'refreshes ahead of time, once over all gates, and survives a lost answer',
  async (t) => {
    const browser = await signedIn()
    t.is(await statusAt(first, browser), 200)
    const before = verified.at(-1)
    advance(34_000)
    const refreshed = refreshes
    onRefresh = 'lose'
    // Nobody waits while the old token is good.
    const statuses = await Promise.all(
      [first, second, first, second, first].map((gate) => statusAt(gate, browser)),
    )
    t.deepEqual(statuses, [200, 200, 200, 200, 200])
    await until(async () => refreshes === refreshed + 2)
    advance(10_000)
    await until(async () => (await statusAt(second, browser)) === 200)
    t.is(await statusAt(first, browser), 200)
    t.is(refreshes, refreshed + 2)
    t.deepEqual(codes, [])
    t.deepEqual(verified.at(-1)?.claims.cnf, before?.claims.cnf)
    t.not(verified.at(-1)?.claims.jti, before?.claims.jti)
  },
)

test.serial('ends a session whose refresh the provider refuses', async (t) => {
  const browser = await signedIn()
  t.is(await statusAt(first, browser), 200)
  onRefresh = 'refuse'
  advance(41_000)
  t.is(await statusAt(first, browser), 401)
  onRefresh = 'answer'
  t.is(await statusAt(first, browser), 401)
})
