// Passkeys in a real browser, with its virtual authenticators.
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import { request as forward } from 'node:http'
import { createServer } from 'node:https'
import { createRequire } from 'node:module'
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import type { Browser, BrowserContext, CDPSession, Page } from 'playwright-core'
import { passkeyAcr, passkeyAndSessionAcr } from '../../src/accounts/acr.ts'
import { developmentCertificate } from '../../src/http/development-authority.ts'
import { freePort } from '../../src/net/free-port.ts'
import { launchBoundChromium, type WatchedPage, watch } from '../support/bound-chromium.ts'
import { certificateOf, chromiumPath } from '../support/chromium-program.ts'
import { useFolder } from '../support/folder.ts'
import { authorizationUrl } from '../support/journey.ts'
import { looks } from '../support/looks.ts'
import { startNodes } from '../support/nodes.ts'
import { query } from '../support/query.ts'
import { type RelyingParty, startRelyingParty } from '../support/relying-party.ts'
import { email, password, startTestServer, type TestServer } from '../support/server.ts'
import { trust } from '../support/trust.ts'
import { until } from '../support/until.ts'
import { addVirtualAuthenticator } from '../support/virtual-authenticator.ts'

interface Site {
  readonly server: TestServer
  readonly client: ClientMetadata
}

interface Environment {
  opened: AsyncDisposableStack
  browser: Browser
  app: RelyingParty
  plain: Site
  below: Site
  behind: Site
}

const artefacts = `${import.meta.dirname}/../artefacts`
const axeSource = readFileSync(
  createRequire(import.meta.url).resolve('axe-core/axe.min.js'),
  'utf-8',
)
const callback = 'https://rp.example/callback'
const welcome = /^https:\/\/app\.example\/welcome\?/

const test = anyTest as TestFn<Environment>
const folder = useFolder(test)
const browserTest = chromiumPath === undefined && !process.env.CI ? test.serial.skip : test.serial

async function siteOf(server: TestServer): Promise<Site> {
  const web = { application_type: 'web', redirect_uris: [callback], client_name: 'Orders' } as const
  return { server, client: await server.addClient(web) }
}

/** A proxy that terminates TLS in front of a server without. */
async function startBehindProxy(opened: AsyncDisposableStack) {
  const [port, inner] = [await freePort(), await freePort()]
  const server = opened.use(
    await startTestServer({
      HOLDFAST_ISSUER: `https://localhost:${port}`,
      HOLDFAST_PORT: String(inner),
      HOLDFAST_TRUSTED_PROXIES: '127.0.0.0/8',
    }),
  )
  const proxy = createServer(await developmentCertificate(folder, []), (req, res) => {
    const { method, headers, url } = req
    const onward = forward({ port: inner, host: '127.0.0.1', path: url, method, headers })
    onward.setHeader('x-forwarded-for', '192.0.2.1')
    onward.on('response', (answer) => {
      res.writeHead(answer.statusCode ?? 502, answer.rawHeaders)
      answer.pipe(res)
    })
    req.pipe(onward)
  })
  proxy.listen(port, '127.0.0.1')
  await once(proxy, 'listening')
  opened.defer(() => {
    proxy.closeAllConnections()
    proxy.close()
  })
  return { server, port }
}

test.before(async (t) => {
  if (chromiumPath === undefined) return
  mkdirSync(artefacts, { recursive: true })
  const opened = new AsyncDisposableStack()
  t.context.opened = opened
  const app = await startRelyingParty()
  opened.defer(() => app.close())
  const nodes = opened.use(await startNodes({}))
  const below = opened.use(await startNodes({}, { path: '/auth' }))
  const behind = await startBehindProxy(opened)
  await trust(nodes)
  const certificates = await Promise.all([
    certificateOf(nodes.port, 'localhost'),
    certificateOf(below.port, 'localhost'),
    certificateOf(behind.port, 'localhost'),
    certificateOf(Number(app.address.split(':')[1]), 'rp.example'),
  ])
  const hosts = { 'rp.example': app.address, 'app.example': app.address }
  const browser = await launchBoundChromium(certificates, hosts)
  opened.defer(() => browser.close())
  Object.assign(t.context, {
    app,
    browser,
    plain: await siteOf(nodes.server),
    below: await siteOf(below.server),
    behind: await siteOf(behind.server),
  })
})

test.after.always((t) => t.context.opened?.disposeAsync())

type Test = ExecutionContext<Environment>

interface Person extends WatchedPage {
  readonly context: BrowserContext
  readonly cdp: CDPSession
  readonly authenticatorId: string
}

const platform = { transport: 'internal', automaticPresenceSimulation: true } as const

/** A browser with one virtual authenticator, whose policy violations fail the test. */
async function open(t: Test, options: object = platform): Promise<Person> {
  t.truthy(t.context.browser, 'Chromium is missing: apt-get install chromium')
  const context = await t.context.browser.newContext({ reducedMotion: 'reduce' })
  t.teardown(() => context.close())
  const watched = await watch(t, context)
  const { page } = watched
  page.on('console', (message) => {
    if (/Content Security Policy|violates/i.test(message.text())) t.fail(message.text())
  })
  const { cdp, authenticatorId } = await addVirtualAuthenticator(page, options)
  return { ...watched, context, cdp, authenticatorId }
}

const addressOf = ({ server, client }: Site, more: Record<string, string> = {}) =>
  authorizationUrl(server.issuer, {
    client_id: client.client_id,
    redirect_uri: callback,
    scope: 'openid',
    ...more,
  })

const must = (value: string) => ({
  claims: JSON.stringify({ id_token: { acr: { essential: true, value } } }),
})

async function typePassword(page: Page): Promise<void> {
  await page.getByLabel('Email').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
}

/** From a password to the first passkey. */
async function addPasskey({ page }: Person, { server }: Site, name = 'This laptop'): Promise<void> {
  await page.goto(`${server.issuer}/security`)
  if ((await page.title()).startsWith('Sign in')) await typePassword(page)
  await page.getByRole('link', { name: 'Add a passkey' }).click()
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Continue with your password' }).click()
  await page.getByLabel('Name').fill(name)
  await page.getByRole('button', { name: 'Create the passkey' }).click()
  await page.waitForURL(`${server.issuer}/security/sign-in`)
  await page.getByText(name, { exact: true }).first().waitFor()
}

const signOut = ({ context }: Person) => context.clearCookies()

/** The button, where the browser has not offered a passkey by itself. */
async function showPasskey(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Use a passkey' }).click({ noWaitAfter: true })
}

async function codeOf(t: Test, page: Page, { server }: Site) {
  await until(async () => welcome.test(page.url()) || (await page.title()).startsWith('Allow'))
  if (!welcome.test(page.url())) await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(welcome)
  const code = new URL(page.url()).searchParams.get('code') ?? ''
  const found = await server.provider.AuthorizationCode.find(code)
  t.truthy(found)
  return found
}

for (const [title, site, options] of [
  ['a platform authenticator', 'plain', platform],
  ['a roaming security key', 'plain', { ...platform, transport: 'usb' }],
  ['an issuer with a path', 'below', platform],
  ['a proxy that terminates TLS', 'behind', platform],
] as const) {
  browserTest(`${title}: one step is proof against phishing and theft`, async (t) => {
    const at = t.context[site]
    const person = await open(t, options)
    const { page, events } = person
    await addPasskey(person, at)
    await signOut(person)
    const before = events.length
    await page.goto(addressOf(at, must(passkeyAndSessionAcr)))
    t.is(await page.getByLabel('Password').count(), 0, 'no password to type')
    await showPasskey(page)
    await person.registered(before)
    const code = await codeOf(t, page, at)
    t.is(code?.acr, passkeyAndSessionAcr)
    t.deepEqual(code?.amr, ['pop', 'user', 'mfa'])
    await page.goto(`${at.server.issuer}/security/sessions`)
    const here = page.getByRole('listitem').filter({ hasText: 'this browser' })
    await here.getByText('Signed in with a passkey').waitFor()
    await here.getByText('Locked to a key of its browser').waitFor()
  })
}

browserTest('user verification that is off: no passkey, and the page says so', async (t) => {
  const person = await open(t)
  const { page, cdp, authenticatorId } = person
  await addPasskey(person, t.context.plain)
  await signOut(person)
  await cdp.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified: false })
  await page.goto(addressOf(t.context.plain, must(passkeyAcr)))
  await showPasskey(page)
  await page.getByText('Your browser did not use a passkey').waitFor()
  t.regex(await page.title(), /^Sign in/)
})

browserTest('a cloned counter: the copy is rejected, and the owner sees it', async (t) => {
  const { plain } = t.context
  const person = await open(t)
  const { page, cdp, authenticatorId } = person
  await addPasskey(person, plain)
  const { credentials } = await cdp.send('WebAuthn.getCredentials', { authenticatorId })
  const [copied] = credentials
  await signOut(person)
  await page.goto(addressOf(plain, must(passkeyAcr)))
  await showPasskey(page)
  await codeOf(t, page, plain)
  await signOut(person)
  await cdp.send('WebAuthn.clearCredentials', { authenticatorId })
  if (copied) await cdp.send('WebAuthn.addCredential', { authenticatorId, credential: copied })
  await page.goto(addressOf(plain, must(passkeyAcr)))
  await showPasskey(page)
  await page.getByText('This passkey was not accepted').waitFor()
  const { server } = plain
  const owner = await server.storage.accounts.findByEmail(email)
  const events = await server.storage.securityEvents.listOf(owner?.account.id ?? '', 5)
  t.true(events.some(({ kind }) => kind === 'passkey_counter_refused'))
})

browserTest('a page of another origin gets no assertion for ours', async (t) => {
  const person = await open(t)
  await addPasskey(person, t.context.plain)
  const { page } = person
  await page.goto('https://rp.example/')
  const refused = await page.evaluate(`navigator.credentials.get({ publicKey: {
    challenge: new Uint8Array(32), rpId: 'localhost', userVerification: 'required',
  } }).then(() => 'signed', (error) => error.name)`)
  t.is(refused, 'SecurityError')
})

browserTest('an assertion that was used comes to nothing, in this tab or another', async (t) => {
  const { plain } = t.context
  const person = await open(t)
  const { page, context } = person
  await addPasskey(person, plain)
  await signOut(person)
  const posted: { url: string; body: string }[] = []
  page.on('request', (request) => {
    if (request.url().endsWith('/passkey') && request.method() === 'POST') {
      posted.push({ url: request.url(), body: request.postData() ?? '' })
    }
  })
  await page.goto(addressOf(plain, must(passkeyAcr)))
  const kept = await context.storageState()
  await showPasskey(page)
  await codeOf(t, page, plain)
  const [used] = posted
  const thief = await t.context.browser.newContext({ storageState: kept })
  t.teardown(() => thief.close())
  const replayed = await thief.request.post(used?.url ?? '', {
    data: used?.body ?? '',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    ignoreHTTPSErrors: true,
    maxRedirects: 0,
  })
  t.is(replayed.status(), 401)
})

browserTest('two tabs sign in by one passkey, each for itself', async (t) => {
  const { plain } = t.context
  const person = await open(t)
  const { page, context } = person
  await addPasskey(person, plain)
  await signOut(person)
  const other = await context.newPage()
  await Promise.all([
    page.goto(addressOf(plain, must(passkeyAcr))),
    other.goto(addressOf(plain, must(passkeyAcr))),
  ])
  // The authenticator is that of the first tab.
  await page.bringToFront()
  await showPasskey(page)
  await codeOf(t, page, plain)
  await page.goto(addressOf(plain, must(passkeyAcr)))
  await page.waitForURL(welcome)
  await other.reload()
  t.regex(await other.title(), /Sign in|out of date/)
})

browserTest('offers passkeys where the email is typed', async (t) => {
  const { plain } = t.context
  const person = await open(t)
  const { page } = person
  await addPasskey(person, plain)
  await signOut(person)
  await page.addInitScript(`
    const get = navigator.credentials.get.bind(navigator.credentials)
    window.asked = []
    navigator.credentials.get = (options) => {
      window.asked.push(options.mediation)
      return options.mediation === 'conditional' ? new Promise(() => {}) : get(options)
    }`)
  await page.goto(addressOf(plain))
  t.is(await page.getByLabel('Email').getAttribute('autocomplete'), 'username webauthn')
  await until(async () => (await page.evaluate<string[]>('window.asked')).includes('conditional'))
  await showPasskey(page)
  await codeOf(t, page, plain)
})

browserTest('tells the browser which passkeys there still are', async (t) => {
  const { plain } = t.context
  const person = await open(t)
  const { page, cdp, authenticatorId } = person
  await addPasskey(person, plain, 'To be removed')
  const count = async () =>
    (await cdp.send('WebAuthn.getCredentials', { authenticatorId })).credentials.length
  t.is(await count(), 1)
  await page.getByRole('link', { name: 'Remove the passkey To be removed' }).click()
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Continue with your password' }).click()
  await page.waitForURL(`${plain.server.issuer}/security/sign-in`)
  await until(async () => (await count()) === 0)
  t.pass()
})

browserTest('has the browser forget a passkey that the server does not know', async (t) => {
  const { plain } = t.context
  const person = await open(t)
  const { page, cdp, authenticatorId } = person
  await addPasskey(person, plain, 'To be lost')
  const { server } = plain
  const owner = await server.storage.accounts.findByEmail(email)
  const accountId = owner?.account.id ?? ''
  const by = { accountId, sessionUid: undefined, address: undefined, userAgent: undefined }
  for (const { id } of await server.storage.passkeys.listOf(accountId)) {
    await server.storage.passkeys.remove(id, 0, by)
  }
  await signOut(person)
  await page.goto(addressOf(plain, must(passkeyAcr)))
  await showPasskey(page)
  await page.getByText('This passkey was not accepted').waitFor()
  await until(
    async () =>
      (await cdp.send('WebAuthn.getCredentials', { authenticatorId })).credentials.length === 0,
  )
  t.pass()
})

browserTest('has the browser rename the passkeys of an account with another name', async (t) => {
  const { plain } = t.context
  const person = await open(t)
  const { page, cdp, authenticatorId } = person
  await addPasskey(person, plain, 'To be renamed')
  const named = async () => {
    const { credentials } = await cdp.send('WebAuthn.getCredentials', { authenticatorId })
    return credentials.map(({ userDisplayName }) => userDisplayName)
  }
  t.deepEqual(await named(), ['Ada'])
  const name = 'Ada Lovelace'
  await query(plain.server.databaseUrl, 'update accounts set name = $1 where email = $2', [
    name,
    email,
  ])
  t.teardown(() => query(plain.server.databaseUrl, "update accounts set name = 'Ada'", []))
  await page.goto(`${plain.server.issuer}/security/profile`)
  await until(async () => (await named()).join() === name)
  t.pass()
})

browserTest(
  'without scripts the password form stays, and a demanded passkey is explained',
  async (t) => {
    const { plain } = t.context
    const context = await t.context.browser.newContext({ javaScriptEnabled: false })
    t.teardown(() => context.close())
    const page = await context.newPage()
    await page.goto(addressOf(plain, must(passkeyAcr)))
    await page.getByText('Passkeys do not work here').waitFor()
    await page.goto(addressOf(plain))
    t.is(await page.getByRole('button', { name: 'Use a passkey' }).count(), 0)
    await typePassword(page)
    await page.getByRole('button', { name: 'Allow' }).waitFor()
  },
)

/** Every page about passkeys, in the order that one person comes to them. */
async function visitAll(person: Person, at: Site, look: (state: string) => Promise<void>) {
  const { page, context, cdp, authenticatorId } = person
  await page.goto(addressOf(at))
  await look('sign-in-with-passkey')
  await page.goto(addressOf(at, must(passkeyAcr)))
  await look('sign-in-passkey-only')
  await page.goto(`${at.server.issuer}/security`)
  await typePassword(page)
  await page.getByRole('link', { name: 'Add a passkey' }).click()
  await look('passkey-add')
  await page.getByLabel('Password').fill('a wrong password')
  await page.getByRole('button', { name: 'Continue with your password' }).click()
  await page.getByRole('alert').first().waitFor()
  await look('passkey-add-error')
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Continue with your password' }).click()
  await page.getByLabel('Name').waitFor()
  await look('passkey-new')
  await page.getByRole('button', { name: 'Create the passkey' }).click()
  await page.waitForURL(`${at.server.issuer}/security/sign-in`)
  await look('my-security-passkeys')
  await page
    .getByRole('link', { name: /^Rename the passkey/ })
    .first()
    .click()
  await look('passkey-rename')
  await page.goto(`${at.server.issuer}/security`)
  await page
    .getByRole('link', { name: /^Remove the passkey/ })
    .first()
    .click()
  await look('passkey-remove')
  await context.clearCookies()
  await cdp.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified: false })
  await page.goto(addressOf(at, must(passkeyAcr)))
  await showPasskey(page)
  await page.getByText('Your browser did not use a passkey').waitFor()
  await look('sign-in-passkey-error')
}

interface AxeResults {
  passes: unknown[]
  violations: { id: string; nodes: { html: string }[] }[]
}

for (const name of ['light']) {
  const { colorScheme = null, viewport = null } = looks[name] ?? {}
  browserTest(`${name}: every page about passkeys is accessible, and fits`, async (t) => {
    const person = await open(t)
    const { page } = person
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
    if (viewport) await page.setViewportSize(viewport)
    await visitAll(person, t.context.plain, async (state) => {
      await page.screenshot({ path: `${artefacts}/${state}-${name}.png`, fullPage: true })
      const width = await page.evaluate<number>('document.documentElement.scrollWidth')
      t.true(width <= (viewport?.width ?? 0), `${state} is ${width} px wide`)
      // By the debugger, which no policy of a page is for.
      await page.evaluate(axeSource)
      const { passes, violations } = await page.evaluate<AxeResults>('axe.run(document)')
      t.true(passes.length > 10)
      t.deepEqual(
        violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`),
        [],
        state,
      )
    })
  })
}
