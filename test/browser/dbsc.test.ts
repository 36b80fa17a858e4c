import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { cheapCost } from '../support/accounts.ts'
import { limitTestsAtOnce } from '../support/at-once.ts'
import { launchBoundChromium, type WatchedPage, watch } from '../support/bound-chromium.ts'
import {
  boundArguments,
  certificateOf,
  chromiumArguments,
  chromiumPath,
} from '../support/chromium-program.ts'
import { authorizationUrl } from '../support/journey.ts'
import { type Nodes, startNodes } from '../support/nodes.ts'
import { query } from '../support/query.ts'
import { type RelyingParty, startRelyingParty } from '../support/relying-party.ts'
import { email, password } from '../support/server.ts'
import { trust } from '../support/trust.ts'
import { until } from '../support/until.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

interface Environment {
  nodes: Nodes
  app: RelyingParty
  clientId: string
  browser: Browser
  certificates: string[]
  hosts: Record<string, string>
}

const test = anyTest as TestFn<Environment>
const browserTest = chromiumPath === undefined && !process.env.CI ? test.skip : test
const serialBrowserTest =
  chromiumPath === undefined && !process.env.CI ? test.serial.skip : test.serial

if (chromiumPath === undefined) {
  process.stderr.write('SKIPPED without CI: no Chromium found. apt-get install chromium\n')
}

// Each has a browser context of its own, and every step of it has 30 seconds.
limitTestsAtOnce(test as TestFn, 4)

const callback = 'https://rp.example/callback'
const welcome = /^https:\/\/app\.example\/welcome\?/
const boundCookie = '__Host-holdfast_bound'

test.before(async (t) => {
  if (chromiumPath === undefined) return
  const app = await startRelyingParty()
  const nodes = await startNodes({ HOLDFAST_SESSION_PROOF_SECONDS: '5' })
  await trust(nodes)
  const accounts = createAccounts({ store: nodes.server.storage.accounts, cost: cheapCost })
  await accounts.add({ email: 'eve@example.com', password })
  const { client_id: clientId } = await nodes.server.addClient({
    application_type: 'web',
    redirect_uris: [callback],
  })
  const rpPort = Number(app.address.split(':')[1])
  const certificates = [
    await certificateOf(nodes.port, 'localhost'),
    await certificateOf(rpPort, 'rp.example'),
  ]
  const hosts = { 'rp.example': app.address, 'app.example': app.address }
  const browser = await launchBoundChromium(certificates, hosts)
  Object.assign(t.context, { nodes, app, clientId, browser, certificates, hosts })
})

test.after.always(async ({ context: { browser, nodes, app } }) => {
  await browser?.close()
  await nodes?.[Symbol.asyncDispose]()
  await app?.close()
})

type Test = ExecutionContext<Environment>

const addressOf = ({ context: { nodes, clientId } }: Test, more: Record<string, string> = {}) =>
  authorizationUrl(nodes.server.issuer, {
    client_id: clientId,
    redirect_uri: callback,
    scope: 'openid',
    ...more,
  })

async function openContext(t: Test): Promise<BrowserContext> {
  t.truthy(t.context.browser, 'Chromium is missing: apt-get install chromium')
  const context = await t.context.browser.newContext()
  t.teardown(() => context.close())
  return context
}

async function typePassword(page: Page): Promise<void> {
  await page.getByLabel('Email').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
}

/** Somebody signed in with an app, in a browser of which it is certain that it registered a key. */
async function signedIn(
  t: Test,
  context: BrowserContext,
): Promise<WatchedPage & { session: string }> {
  const watched = await watch(t, context)
  const { page } = watched
  await page.goto(addressOf(t))
  await typePassword(page)
  const session = await watched.registered()
  // The page has registered a key as well, and that of the browser has replaced it.
  const found = await t.context.nodes.server.storage.browserSessions.find(session)
  t.is(found?.binding?.method, 'dbsc')
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(welcome)
  t.regex(page.url(), /code=/)
  return { ...watched, session }
}

const isExpired = (context: BrowserContext) => async () =>
  (await context.cookies()).every(({ name }) => name !== boundCookie)

const expired = (context: BrowserContext) => until(isExpired(context))

/** The app leads its visitor to /authorize, as apps do. */
async function arrive(t: Test, page: Page, more: Record<string, string> = {}): Promise<void> {
  await page.goto('https://rp.example/')
  await page.evaluate(`location.href = ${JSON.stringify(addressOf(t, more))}`)
}

/** A program with every cookie of a browser. */
async function thiefOf(t: Test, context: BrowserContext): Promise<UserAgent> {
  const thief = createUserAgent(t.context.nodes.server.issuer)
  for (const { name, value, path: at } of await context.cookies(t.context.nodes.server.issuer)) {
    const cookie = `${name}=${value}; Path=${at}; Secure`
    await thief.jar.setCookie(cookie, t.context.nodes.server.issuer)
  }
  return thief
}

const gets = async (t: Test, agent: UserAgent, more: Record<string, string> = {}) =>
  new URL((await agent.get(addressOf(t, more))).location ?? '').search

const isRefreshed: Parameters<WatchedPage['saw']>[0] = ({ refreshEventDetails: refresh }) =>
  refresh?.refreshResult === 'Refreshed'
const isAwaitedRefresh: Parameters<WatchedPage['saw']>[0] = ({ refreshEventDetails: refresh }) =>
  refresh?.wasFullyProactiveRefresh === false
const isTerminated: Parameters<WatchedPage['saw']>[0] = ({ terminationEventDetails: ended }) =>
  ended !== undefined

browserTest('an app leads here after the cookie has run out: no new sign-in', async (t) => {
  const context = await openContext(t)
  const { page, saw } = await signedIn(t, context)
  await expired(context)
  await arrive(t, page)
  await page.waitForURL(welcome)
  t.regex(page.url(), /code=/)
  await saw(isRefreshed)
})

browserTest('prompt=none after the cookie has run out', async (t) => {
  const context = await openContext(t)
  const { page, saw } = await signedIn(t, context)
  await expired(context)
  await arrive(t, page, { prompt: 'none' })
  await page.waitForURL(welcome)
  t.regex(page.url(), /code=/)
  await saw(isRefreshed)
})

browserTest('a request waits for the refresh, and five at once for one', async (t) => {
  const context = await openContext(t)
  const { page, saw, events } = await signedIn(t, context)
  await page.goto(`${t.context.nodes.server.issuer}/.well-known/device-bound-sessions`)
  await expired(context)
  const before = events.length
  const url = addressOf(t, { prompt: 'none' })
  // As pictures, which the policy of our pages lets a script ask for.
  const pictures = `Promise.all(Array.from({ length: 5 }, (_, index) => new Promise((seen) => {
    const picture = new Image()
    picture.onerror = seen
    picture.src = ${JSON.stringify(url)} + '&state=' + index
  })))`
  await page.evaluate(pictures)
  await saw(isRefreshed, before)
  // With seconds to live, the new cookie may be refreshed ahead of its time at once.
  t.is(events.slice(before).filter(isAwaitedRefresh).length, 1)
  // All five came with a proof: the server has seen none without.
  t.false(await wasUnproven(t, events[0]?.sessionId))
})

browserTest('a cookie that is about to run out is refreshed before it does', async (t) => {
  const context = await openContext(t)
  const { page, saw, events } = await signedIn(t, context)
  await page.goto(addressOf(t))
  const at = await saw(({ refreshEventDetails: refresh }) => refresh !== undefined)
  t.is(events[at]?.refreshEventDetails?.refreshResult, 'Refreshed')
  t.true(events.some((event) => event.refreshEventDetails?.wasFullyProactiveRefresh))
})

browserTest('the complete cookie jar is of no use to another client', async (t) => {
  const context = await openContext(t)
  const { page } = await signedIn(t, context)
  let thief = createUserAgent(t.context.nodes.server.issuer)
  const works = async () => (await gets(t, thief, { prompt: 'none' })).includes('code=')
  // A copy is good until the companion runs out.
  await until(async () => {
    await page.goto(addressOf(t))
    thief = await thiefOf(t, context)
    return works()
  })
  await until(async () => !(await works()))
  t.regex(await gets(t, thief, { prompt: 'none' }), /error=login_required/)
  await page.goto(addressOf(t))
  await page.waitForURL(welcome)
  t.regex(page.url(), /code=/, 'its owner is still in')
})

browserTest('signing out ends the session in the browser as well', async (t) => {
  const context = await openContext(t)
  const { page, saw } = await signedIn(t, context)
  const thief = await thiefOf(t, context)
  await page.goto(`${t.context.nodes.server.issuer}/session/end`)
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.waitForSelector('text=You are signed out')
  await saw(isTerminated)
  t.regex(await gets(t, thief, { prompt: 'none' }), /error=login_required/)
  await arrive(t, page)
  await page.waitForSelector('text=Sign in')
})

browserTest(
  'a session that was ended elsewhere ends in the browser at its next request',
  async (t) => {
    const context = await openContext(t)
    const { page, saw, session } = await signedIn(t, context)
    await t.context.nodes.server.storage.browserSessions.end(session)
    await expired(context)
    await page.goto(addressOf(t))
    await page.waitForSelector('text=Sign in')
    await saw(isTerminated)
  },
)

browserTest('binds the new session after a second sign-in as another user', async (t) => {
  const context = await openContext(t)
  const { page, registered, events } = await signedIn(t, context)
  const before = events.length
  await page.goto(addressOf(t, { prompt: 'login', login_hint: email }))
  // Chromium asks the old session's endpoint first, which is alive until someone else signs in.
  await page.getByLabel('Email').fill('eve@example.com')
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  const session = await registered(before)
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(welcome)
  await expired(context)
  for (const _ of Array(3)) {
    await arrive(t, page)
    await page.waitForURL(welcome)
    t.regex(page.url(), /code=/)
  }
  t.false(await wasUnproven(t, session))
})

browserTest('a browser that binds nothing signs in as it ever did', async (t) => {
  const { certificates, hosts, nodes } = t.context
  const browser = await launchBoundChromium(certificates, hosts, { bound: false })
  t.teardown(() => browser.close())
  const page = await browser.newPage()
  await page.goto(addressOf(t))
  await typePassword(page)
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(welcome)
  const code = new URL(page.url()).searchParams.get('code') ?? ''
  const { sessionUid = '' } = (await nodes.server.provider.AuthorizationCode.find(code)) ?? {}
  const { binding } = (await nodes.server.storage.browserSessions.find(sessionUid)) ?? {}
  t.not(binding?.method, 'dbsc')
  await arrive(t, page, { prompt: 'none' })
  await page.waitForURL(welcome)
  t.regex(page.url(), /code=/)
})

browserTest('the session is still bound after a restart of the browser', async (t) => {
  const { certificates, hosts } = t.context
  const profile = await mkdtemp(path.join(tmpdir(), 'holdfast-profile-'))
  t.teardown(() => rm(profile, { recursive: true, force: true }))
  const launch = () =>
    chromium.launchPersistentContext(profile, {
      ...(chromiumPath === undefined ? {} : { executablePath: chromiumPath }),
      args: [...chromiumArguments(hosts), ...boundArguments(certificates)],
    })
  const before = await launch()
  await signedIn(t, before)
  await before.close()
  const after = await launch()
  t.teardown(() => after.close())
  await expired(after)
  const { page, saw } = await watch(t, after)
  await arrive(t, page, { prompt: 'none' })
  await page.waitForURL(welcome)
  t.regex(page.url(), /code=/)
  await saw(isRefreshed)
})

serialBrowserTest('a server that fails during a refresh ends nothing', async (t) => {
  const { nodes } = t.context
  const context = await openContext(t)
  const { page, saw, events } = await signedIn(t, context)
  await expired(context)
  await without(nodes.server.databaseUrl, 'replay_marks', async () => {
    await arrive(t, page, { prompt: 'none' })
    await page.waitForURL(welcome)
    t.regex(page.url(), /error=login_required/, 'without a proof there is no session')
  })
  const before = events.length
  await arrive(t, page, { prompt: 'none' })
  await page.waitForURL(welcome)
  t.regex(page.url(), /code=/)
  await saw(isRefreshed, before)
})

serialBrowserTest('continues at another node when one has stopped', async (t) => {
  const { nodes } = t.context
  const context = await openContext(t)
  const { page, saw, events } = await signedIn(t, context)
  await nodes.replaceNode()
  await expired(context)
  const before = events.length
  await arrive(t, page, { prompt: 'none' })
  await page.waitForURL(welcome)
  t.regex(page.url(), /code=/)
  await saw(isRefreshed, before)
})

async function wasUnproven({ context: { nodes } }: Test, session = ''): Promise<boolean> {
  return nodes.server.logged.some(
    (line) => line.includes('session_unproven') && line.includes(session),
  )
}

/** Lets the server run into an error wherever it needs a table. */
async function without(databaseUrl: string, table: string, work: () => Promise<void>) {
  await query(databaseUrl, `alter table ${table} rename to lost`)
  try {
    await work()
  } finally {
    await query(databaseUrl, `alter table lost rename to ${table}`)
  }
}
