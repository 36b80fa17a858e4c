// A browser without DBSC, whose sessions a script of our pages binds: Chromium with the feature off.
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { limitTestsAtOnce } from '../support/at-once.ts'
import { launchBoundChromium } from '../support/bound-chromium.ts'
import { certificateOf, chromiumPath } from '../support/chromium-program.ts'
import { letMomentPass } from '../support/device.ts'
import { authorizationUrl } from '../support/journey.ts'
import { type Nodes, startNodes } from '../support/nodes.ts'
import { type RelyingParty, startRelyingParty } from '../support/relying-party.ts'
import { email, password } from '../support/server.ts'
import { trust } from '../support/trust.ts'
import { until } from '../support/until.ts'

interface Environment {
  nodes: Nodes
  app: RelyingParty
  clientId: string
  browser: Browser
}

const test = anyTest as TestFn<Environment>
const browserTest = chromiumPath === undefined && !process.env.CI ? test.skip : test

limitTestsAtOnce(test as TestFn, 3)

const callback = 'https://rp.example/callback'
const welcome = /^https:\/\/app\.example\/welcome\?/

test.before(async (t) => {
  if (chromiumPath === undefined) return
  const app = await startRelyingParty()
  // Below a path, where no Clear-Site-Data removes what the script has kept.
  const nodes = await startNodes({ HOLDFAST_SESSION_PROOF_SECONDS: '5' }, { path: '/auth' })
  await trust(nodes)
  const { client_id: clientId } = await nodes.server.addClient({
    application_type: 'web',
    redirect_uris: [callback],
  })
  const certificates = [
    await certificateOf(nodes.port, 'localhost'),
    await certificateOf(Number(app.address.split(':')[1]), 'rp.example'),
  ]
  const hosts = { 'rp.example': app.address, 'app.example': app.address }
  const browser = await launchBoundChromium(certificates, hosts, { bound: false })
  Object.assign(t.context, { nodes, app, clientId, browser })
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

async function openContext(t: Test, options = {}): Promise<BrowserContext> {
  t.truthy(t.context.browser, 'Chromium is missing: apt-get install chromium')
  const context = await t.context.browser.newContext(options)
  t.teardown(() => context.close())
  return context
}

const hasProof = (page: Page) =>
  page.locator('[data-page-key]:not([value=""])').first().waitFor({ state: 'attached' })

/** Signed in with an app; the session as the server knows it. */
async function signedIn(t: Test, context: BrowserContext, { script = true } = {}) {
  const { nodes } = t.context
  const page = await context.newPage()
  await page.goto(addressOf(t))
  if (script) await hasProof(page)
  await page.getByLabel('Email').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(welcome)
  const code = new URL(page.url()).searchParams.get('code') ?? ''
  const { sessionUid = '' } = (await nodes.server.provider.AuthorizationCode.find(code)) ?? {}
  const binding = (await nodes.server.storage.browserSessions.find(sessionUid))?.binding
  await letMomentPass(nodes.server.databaseUrl, sessionUid)
  return { page, binding, sessionUid }
}

/** The app leads its user to /authorize, as apps do. */
async function arrive(t: Test, page: Page, more: Record<string, string> = {}): Promise<void> {
  await page.goto('https://rp.example/')
  await page.evaluate(`location.href = ${JSON.stringify(addressOf(t, more))}`)
}

const boundCookies = async ({ context: { nodes } }: Test, context: BrowserContext) =>
  (await context.cookies(nodes.server.issuer)).filter(({ name }) => name.includes('page_key'))

const expired = (t: Test, context: BrowserContext) =>
  until(async () => (await boundCookies(t, context)).length === 0)

/** On a page of the server: what is in its database of keys. */
const storedKeys = (page: Page) =>
  page.evaluate<{ extractable: boolean; key: string }[]>(`new Promise((resolve, reject) => {
    const opening = indexedDB.open('holdfast /auth/')
    opening.onerror = reject
    opening.onsuccess = () => {
      const all = opening.result.transaction('keys').objectStore('keys').getAll()
      all.onsuccess = () => {
        opening.result.close()
        resolve(all.result.map(({ key, privateKey }) => ({ key, extractable: privateKey.extractable })))
      }
    }
  })`)

browserTest('a navigation proves the page key after its cookie has run out', async (t) => {
  const context = await openContext(t)
  const { page, binding } = await signedIn(t, context)
  t.is(binding?.method, 'page-key')
  for (const prompt of [{}, { prompt: 'none' }]) {
    await expired(t, context)
    await arrive(t, page, prompt)
    await page.waitForURL(welcome)
    t.regex(page.url(), /code=/)
  }
})

browserTest('the page key cannot be read out of the browser', async (t) => {
  const context = await openContext(t)
  const { page, binding } = await signedIn(t, context)
  await page.goto(`${t.context.nodes.server.issuer}/security/sessions`)
  await page.getByText('Locked to a key of this site’s pages').first().waitFor()
  const keys = await storedKeys(page)
  t.deepEqual(
    keys.filter(({ key }) => key === binding?.jkt),
    [{ key: binding?.jkt ?? '', extractable: false }],
  )
  t.true(keys.every(({ extractable }) => !extractable))
})

browserTest('a page that is open proves the page key before its cookie runs out', async (t) => {
  const context = await openContext(t)
  const { page } = await signedIn(t, context)
  const { issuer } = t.context.nodes.server
  await page.goto(`${issuer}/security/sessions`)
  await page.getByText('Locked to a key of this site’s pages').first().waitFor()
  for (const _ of Array(2)) {
    const answer = await page.waitForResponse(`${issuer}/dbsc/refresh`)
    t.is(answer.status(), 200)
  }
  await page.getByRole('link', { name: 'Activity' }).click()
  await page.waitForURL(/\/security\/activity$/)
  await page.getByRole('link', { name: 'Sign out' }).waitFor()
})

browserTest('all cookies are of no use in a browser without the key', async (t) => {
  const context = await openContext(t)
  const { page } = await signedIn(t, context)
  const stolen = await openContext(t)
  await stolen.addCookies(await context.cookies(t.context.nodes.server.issuer))
  await expired(t, stolen)
  const thief = await stolen.newPage()
  await arrive(t, thief)
  await thief.getByRole('heading', { name: 'Sign in' }).waitFor()
  await arrive(t, thief, { prompt: 'none' })
  await thief.waitForURL(welcome)
  t.regex(thief.url(), /error=login_required/)
  await arrive(t, page, { prompt: 'none' })
  await page.waitForURL(welcome)
  t.regex(page.url(), /code=/, 'its owner is still in')
})

browserTest(
  'a browser that has lost the page key asks for a sign-in, and then has another',
  async (t) => {
    const context = await openContext(t)
    const { page, binding } = await signedIn(t, context)
    await page.goto(`${t.context.nodes.server.issuer}/forgotten`)
    await page.evaluate("indexedDB.deleteDatabase('holdfast /auth/')")
    await expired(t, context)
    await arrive(t, page)
    await hasProof(page)
    await page.getByLabel('Email').fill(email)
    await page.getByLabel('Password').fill(password)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByRole('button', { name: 'Allow' }).click()
    await page.waitForURL(welcome)
    await expired(t, context)
    await arrive(t, page, { prompt: 'none' })
    await page.waitForURL(welcome)
    t.regex(page.url(), /code=/)
    t.truthy(binding)
  },
)

browserTest('signing out removes the page key from the browser', async (t) => {
  const context = await openContext(t)
  const { page, binding } = await signedIn(t, context)
  const { issuer } = t.context.nodes.server
  await page.goto(`${issuer}/session/end`)
  t.true((await storedKeys(page)).some(({ key }) => key === binding?.jkt))
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.getByText('You are signed out').waitFor()
  t.false((await storedKeys(page)).some(({ key }) => key === binding?.jkt))
  t.deepEqual(await boundCookies(t, context), [])
})

browserTest('without scripts a password signs in, and the session has no key', async (t) => {
  const context = await openContext(t, { javaScriptEnabled: false })
  const { binding } = await signedIn(t, context, { script: false })
  t.is(binding, null)
})

browserTest('a browser without IndexedDB signs in, and the session has no key', async (t) => {
  const context = await openContext(t)
  await context.addInitScript(
    "Object.defineProperty(window, 'indexedDB', { get() { throw new DOMException('no', 'SecurityError') } })",
  )
  const { binding } = await signedIn(t, context, { script: false })
  t.is(binding, null)
})
