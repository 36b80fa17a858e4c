// A browser without DBSC at a gate: Chromium with the feature off, and the script that it gets there.
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core'
import { developmentCertificate } from '../../src/http/development-authority.ts'
import { limitTestsAtOnce } from '../support/at-once.ts'
import { launchBoundChromium, watch } from '../support/bound-chromium.ts'
import { certificateOf, chromiumPath } from '../support/chromium-program.ts'
import { useFolder } from '../support/folder.ts'
import { app, type BrowserGate, startBrowserGate } from '../support/gate-browsers.ts'
import { email, password, useTestServer } from '../support/server.ts'
import { until } from '../support/until.ts'

const test = anyTest as TestFn
const browserTest = chromiumPath === undefined && !process.env.CI ? test.skip : test
limitTestsAtOnce(test, 2)

const server = useTestServer(test)
const folder = useFolder(test)
const opened = new AsyncDisposableStack()
test.after.always(() => opened.disposeAsync())

let gate: BrowserGate
const browsers: Browser[] = []

test.before(async () => {
  if (chromiumPath === undefined) return
  const pair = await developmentCertificate(folder, ['app.example'])
  gate = opened.use(
    await startBrowserGate(server, {
      openid: { proofS: 5, pageKey: true },
      options: { pair: { cert: String(pair.cert), key: String(pair.key) } },
    }),
  )
  const include = '<script type="module" src="/.gate/page-key.js"></script>'
  for (const [path, head] of [
    // Markup that someone has put into a page of the application leads nowhere.
    ['/kept', `<script data-next="/elsewhere"></script>${include}`],
    ['/plain', ''],
  ] as const) {
    gate.application.handlers.set(path, (_, response) => {
      response.setHeader('Content-Type', 'text/html')
      response.end(`<!doctype html><title>At the application</title>${head}`)
    })
  }
  const certificates = [await certificateOf(gate.gate.port, 'app.example')]
  const hosts = { 'app.example': `127.0.0.1:${gate.gate.port}` }
  for (const bound of [false, true]) {
    const browser = await launchBoundChromium(certificates, hosts, { bound })
    opened.defer(() => browser.close())
    browsers.push(browser)
  }
})

async function openContext(
  t: ExecutionContext,
  { bound = false, ...options }: { bound?: boolean } & BrowserContextOptions = {},
): Promise<BrowserContext> {
  const browser = browsers[bound ? 1 : 0]
  if (browser === undefined) throw new Error('Chromium is missing: apt-get install chromium')
  const context = await browser.newContext(options)
  t.teardown(() => context.close())
  return context
}

async function signIn(page: Page, path: string): Promise<void> {
  await page.goto(app + path)
  await page.getByLabel('Email').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(app + path)
}

const proofsOf = async (context: BrowserContext) =>
  (await context.cookies(app)).filter(({ name }) => name === '__Host-gate-page-key')
const expired = (context: BrowserContext) =>
  until(async () => (await proofsOf(context)).length === 0)

/** What the gate tells the application about a request that a script has sent. */
const methodsOf = (page: Page) =>
  page.evaluate<string[] | number>(
    "fetch('/a').then(async (a) => (a.ok ? (await a.json()).identity.methods : a.status))",
  )

browserTest(
  'binds the session to the key of a page, and proves it at the next address',
  async (t) => {
    const context = await openContext(t)
    const page = await context.newPage()
    await signIn(page, '/plain?a=1&b=2')
    t.deepEqual(await methodsOf(page), ['page-key'])
    await expired(context)
    t.is(await methodsOf(page), 401)
    const cookies = await context.cookies(app)
    await page.goto(`${app}/plain?c=3`)
    await page.waitForURL(`${app}/plain?c=3`)
    t.deepEqual(await methodsOf(page), ['page-key'])
    // A thief with these cookies signs in as anyone else does.
    const stolen = await openContext(t)
    await stolen.addCookies(cookies)
    const thief = await stolen.newPage()
    await thief.goto(`${app}/plain`)
    await thief.getByRole('heading', { name: 'Sign in' }).waitFor()
  },
)

browserTest('a page of the application that includes the script stays proven', async (t) => {
  const context = await openContext(t)
  const page = await context.newPage()
  await signIn(page, '/kept')
  for (const _ of Array(2)) {
    const answer = await page.waitForResponse(`${app}/.gate/page-key/proof`)
    t.true([200, 403].includes(answer.status()))
    await until(async () => (await proofsOf(context)).length > 0)
    t.deepEqual(await methodsOf(page), ['page-key'])
  }
  await page.goto('about:blank')
  await expired(context)
  await page.goto(`${app}/kept`)
  await page.waitForURL(`${app}/kept`)
  t.deepEqual(await methodsOf(page), ['page-key'])
  await context.clearCookies({ name: '__Host-gate-page-key' })
  t.is(await methodsOf(page), 401)
  await page.evaluate(
    "localStorage.clear(), import('/.gate/page-key.js').then(({ proven }) => proven())",
  )
  t.deepEqual(await methodsOf(page), ['page-key'])
})

browserTest('a browser with DBSC replaces the key of the page by its own', async (t) => {
  const context = await openContext(t, { bound: true })
  const { page, registered } = await watch(t, context)
  await signIn(page, '/plain')
  await registered()
  await until(async () => `${await methodsOf(page)}` === 'dbsc')
  t.pass()
})

for (const [title, options, script] of [
  ['scripts', { javaScriptEnabled: false }, undefined],
  [
    'IndexedDB',
    {},
    "Object.defineProperty(window, 'indexedDB', { get() { throw new DOMException('no', 'SecurityError') } })",
  ],
] as const) {
  browserTest(`a browser without ${title} continues with a plain session`, async (t) => {
    const context = await openContext(t, options)
    if (script) await context.addInitScript(script)
    const page = await context.newPage()
    await signIn(page, '/plain')
    t.deepEqual(await proofsOf(context), [])
    const answer = await page.goto(`${app}/a`)
    const { identity } = JSON.parse((await answer?.text()) ?? '{}')
    t.deepEqual(identity?.methods, [])
  })
}
