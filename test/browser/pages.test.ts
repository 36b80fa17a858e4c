import { randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { chromiumPath, launchChromium } from '../support/chromium.ts'
import { askForCode, deviceEnvironment, television } from '../support/device-flow.ts'
import { newKey } from '../support/flow.ts'
import {
  authorizationUrl,
  type IdentityProvider,
  ordersApi,
  ordersClient,
  startIdentityProvider,
} from '../support/journey.ts'
import { looks } from '../support/looks.ts'
import { type RelyingParty, startRelyingParty } from '../support/relying-party.ts'
import { password } from '../support/server.ts'
import { linkOf, type SmtpReceiver, startSmtp } from '../support/smtp.ts'

interface Environment {
  smtp: SmtpReceiver
  idp: IdentityProvider
  app: RelyingParty
  browser: Browser
}

const mailEnvironment = ({ port }: SmtpReceiver) => ({
  HOLDFAST_SMTP_URL: `smtp://127.0.0.1:${port}`,
  HOLDFAST_MAIL_FROM: 'no-reply@example.com',
  HOLDFAST_SIGN_UP: 'domains:example.com',
})

const artefacts = `${import.meta.dirname}/../artefacts`
const axeSource = readFileSync(
  createRequire(import.meta.url).resolve('axe-core/axe.min.js'),
  'utf-8',
)
/** A blue square. */
const logo = Buffer.from('R0lGODlhAQABAPAAAABmmQAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==', 'base64')
const welcomeUrl = /^https:\/\/app\.example\/welcome\?/

const test = anyTest as TestFn<Environment>
// One at a time: a browser in parallel with itself is slower, and waits that end in time do not.
const browserTest = chromiumPath === undefined && !process.env.CI ? test.serial.skip : test.serial

if (chromiumPath === undefined) {
  process.stderr.write('SKIPPED without CI: no Chromium found. apt-get install chromium\n')
}

test.before(async (t) => {
  if (chromiumPath === undefined) return
  mkdirSync(artefacts, { recursive: true })
  const app = await startRelyingParty()
  const smtp = await startSmtp()
  const idp = await startIdentityProvider(
    [
      {
        ...ordersClient,
        redirect_uris: [...ordersClient.redirect_uris, 'https://rp.example/posted'],
        client_uri: 'https://rp.example/',
        policy_uri: 'https://rp.example/privacy',
        tos_uri: 'https://a-very-long-name-of-a-host.terms-of-service.rp.example/terms',
      },
      {
        ...ordersClient,
        client_id: 'reports',
        client_name: 'Legacy Reports',
        frontchannel_logout_uri: 'https://rp.example/front',
        binding_method: 'bearer',
      },
      { ...television, application_type: 'native', client_id: 'television' },
    ],
    { ...deviceEnvironment, ...mailEnvironment(smtp) },
  )
  await idp.accounts.add({ email: 'eve@example.com', password })
  await idp.setLogo('orders', logo)
  const browser = await launchChromium({ 'rp.example': app.address, 'app.example': app.address })
  Object.assign(t.context, { app, idp, smtp, browser })
})

test.after.always(async ({ context: { browser, idp, app, smtp } }) => {
  await browser?.close()
  await idp?.close()
  await smtp?.[Symbol.asyncDispose]()
  await app?.close()
})

/** A page that fails the test when the browser had to refuse something. */
async function open(
  t: ExecutionContext<Environment>,
  options: BrowserContextOptions,
): Promise<Page> {
  t.truthy(t.context.browser, 'Chromium is missing: apt-get install chromium')
  const context = await t.context.browser.newContext({ ignoreHTTPSErrors: true, ...options })
  t.teardown(() => context.close())
  const page = await context.newPage()
  page.on('console', (message) => {
    if (/Content Security Policy|violates|refused/i.test(message.text())) t.fail(message.text())
  })
  return page
}

const everything = { scope: 'openid profile email orders:read orders:write', resource: ordersApi }

async function typePassword(page: Page, password: string) {
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
}

async function signIn(page: Page, email = 'ada@example.com') {
  await page.getByLabel('Email').fill(email)
  await typePassword(page, password)
}

async function consent(page: Page, origin: string, parameters: Record<string, string> = {}) {
  await page.goto(authorizationUrl(origin, { ...everything, ...parameters }))
  await signIn(page)
  await page.waitForSelector('text=Use another account')
}

/** Every page there is, in the order that one person may come to them. */
async function visitAll(
  page: Page,
  { idp, smtp }: Pick<Environment, 'idp' | 'smtp'>,
  look: (state: string) => Promise<void>,
) {
  const { origin } = idp
  await page.goto(authorizationUrl(origin, everything))
  await look('sign-in')
  await page.getByLabel('Email').fill('ada@example.com')
  await typePassword(page, 'another password')
  await page.waitForSelector('[role=alert]')
  await look('sign-in-error')
  await typePassword(page, password)
  await page.waitForSelector('text=Locked to a key')
  await look('consent')
  await page.goto(authorizationUrl(origin, { ...everything, client_id: 'reports' }))
  await page.waitForSelector('text=not locked to a key')
  await look('consent-bearer')
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(welcomeUrl)
  await page.goto(authorizationUrl(origin, { client_id: 'nobody' }))
  await look('error')
  await page.goto(`${origin}/session/end?client_id=orders`)
  await look('sign-out')
  await page.goto(`${origin}/session/end`)
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.waitForSelector('text=You are signed out')
  await look('signed-out')
  await visitMailPages(page, origin, look)
  await visitSignUp(page, { idp, smtp }, look)
  await visitDevicePages(page, origin, look)
}

async function visitMailPages(page: Page, origin: string, look: (state: string) => Promise<void>) {
  await page.goto(`${origin}/forgotten`)
  await look('forgotten')
  await page.getByLabel('Email').fill('ada@1.2.3.999')
  await page.getByRole('button', { name: 'Send the link' }).click()
  await page.waitForSelector('[role=alert]')
  await look('forgotten-error')
  await page.getByLabel('Email').fill('ada@example.com')
  await page.getByRole('button', { name: 'Send the link' }).click()
  await page.waitForSelector('text=Look at your mail')
  await look('forgotten-sent')
}

async function visitSignUp(
  page: Page,
  { idp, smtp }: Pick<Environment, 'idp' | 'smtp'>,
  look: (state: string) => Promise<void>,
) {
  await page.goto(authorizationUrl(idp.origin, everything))
  await page.getByRole('link', { name: 'Create an account' }).click()
  await look('sign-up')
  await page.getByLabel('Email').fill('grace@elsewhere.example')
  await page.getByRole('button', { name: 'Continue' }).click()
  await page.waitForSelector('[role=alert]')
  await look('sign-up-error')
  const email = `${randomUUID()}@example.com`
  await page.getByLabel('Email').fill(email)
  await page.getByRole('button', { name: 'Continue' }).click()
  await page.waitForSelector('text=Look at your mail')
  await look('sign-up-sent')
  await page.goto(linkOf(await smtp.mailTo(email)))
  await look('sign-up-confirm')
  await idp.accounts.add({ email })
  await page.getByRole('button', { name: 'Create the account' }).click()
  await page.waitForSelector('text=You have an account already')
  await look('sign-up-has-account')
}

async function visitDevicePages(
  page: Page,
  origin: string,
  look: (state: string) => Promise<void>,
) {
  const key = await newKey()
  const ask = async (headers: Record<string, string> = {}) => {
    const asked = { scope: 'openid email' }
    return (
      await askForCode({ issuer: origin }, { client_id: 'television' }, { key, headers }, asked)
    ).body
  }
  await page.goto(`${origin}/device`)
  await look('device-code')
  await page.getByLabel('Code').fill('bcdf-ghjk')
  await page.getByRole('button', { name: 'Continue' }).click()
  await page.waitForSelector('[role=alert]')
  await look('device-code-error')
  const elsewhere = {
    'x-forwarded-for': '2001:db8:4711::2',
    'user-agent': 'Mozilla/5.0 (X11; Linux aarch64) AppleWebKit/537.36 Chrome/120.0.0.0 TV',
  }
  await page.goto((await ask(elsewhere)).verification_uri_complete)
  await page.getByRole('button', { name: 'Continue' }).click()
  await page.waitForSelector('text=Not where you are')
  await look('device-confirm-elsewhere')
  await page.goto((await ask()).verification_uri_complete)
  await page.getByRole('button', { name: 'Continue' }).click()
  await page.waitForSelector('text=Your device must show this code')
  await look('device-confirm')
  await page.getByRole('button', { name: 'This was not me' }).click()
  await page.waitForSelector('text=is not connected')
  await look('device-denied')
  await page.goto((await ask()).verification_uri_complete)
  await page.getByRole('button', { name: 'Continue' }).click()
  await page.getByRole('checkbox').check()
  await page.getByRole('button', { name: 'Continue' }).click()
  await signIn(page)
  await page.waitForSelector('text=your other device')
  await look('device-consent')
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForSelector('text=Your device is connected')
  await look('device-done')
}

interface AxeResults {
  passes: unknown[]
  violations: { id: string; nodes: { html: string }[] }[]
}

for (const [name, options] of Object.entries(looks)) {
  browserTest(
    `${name}: every page is accessible, fits, and is told apart by its title`,
    async (t) => {
      const page = await open(t, options)
      const titles = new Set<string>()
      await visitAll(page, t.context, async (state) => {
        await page.screenshot({ path: `${artefacts}/${state}-${name}.png`, fullPage: true })
        const title = await page.title()
        t.regex(
          title,
          state.includes('error') ? /^Error: .+ – Holdfast$/ : /^(?!Error).+ – Holdfast$/,
        )
        titles.add(title)
        const width = await page.evaluate<number>('document.documentElement.scrollWidth')
        t.true(width <= (options.viewport?.width ?? 0), `${state} is ${width} px wide`)
        await page.evaluate(axeSource)
        const { passes, violations } = await page.evaluate<AxeResults>('axe.run(document)')
        t.true(passes.length > 10)
        t.deepEqual(
          violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`),
          [],
          state,
        )
      })
      t.is(titles.size, 20)
    },
  )
}

browserTest('by keyboard alone and without JavaScript, from the app to the app', async (t) => {
  const page = await open(t, { javaScriptEnabled: false })
  const focused = page.locator(':focus')
  await page.goto(authorizationUrl(t.context.idp.origin, everything))
  t.is(await focused.getAttribute('id'), 'email')
  await page.keyboard.type('ada@example.com')
  await page.keyboard.press('Tab')
  await page.keyboard.type('another password')
  await page.keyboard.press('Enter')
  await page.waitForSelector('[role=alert]')
  t.is(await focused.getAttribute('id'), 'password')
  await page.keyboard.type(password)
  await page.keyboard.press('Enter')
  await page.waitForSelector('text=Use another account')
  const stops = ['Use another account', 'Website', 'Privacy policy', 'Terms of service', 'Allow']
  for (const stop of stops) {
    await page.keyboard.press('Tab')
    t.is(await focused.textContent(), stop)
  }
  await page.keyboard.press('Enter')
  await page.waitForURL(welcomeUrl)
  t.regex(page.url(), /code=/)
})

browserTest('saying no leads to the app', async (t) => {
  const page = await open(t, { javaScriptEnabled: false })
  await consent(page, t.context.idp.origin)
  await page.getByRole('button', { name: 'Deny' }).click()
  await page.waitForURL(welcomeUrl)
  t.regex(page.url(), /error=access_denied/)
})

browserTest('cancelling the sign-in needs neither email nor password', async (t) => {
  const page = await open(t, {})
  await page.goto(authorizationUrl(t.context.idp.origin))
  await page.getByRole('button', { name: 'Cancel' }).click()
  await page.waitForURL(welcomeUrl)
  t.regex(page.url(), /error=access_denied/)
})

browserTest('signing in again leads straight to the app that was allowed before', async (t) => {
  const page = await open(t, {})
  await consent(page, t.context.idp.origin)
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(welcomeUrl)
  await page.goto(authorizationUrl(t.context.idp.origin, { ...everything, prompt: 'login' }))
  await signIn(page)
  await page.waitForURL(welcomeUrl)
  t.regex(page.url(), /code=/)
})

browserTest('another account, without a page in between', async (t) => {
  const page = await open(t, { javaScriptEnabled: false })
  await consent(page, t.context.idp.origin)
  await page.getByRole('link', { name: 'Use another account' }).click()
  await signIn(page, 'eve@example.com')
  await page.waitForSelector('text=eve@example.com')
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(welcomeUrl)
  t.regex(page.url(), /code=/)
})

browserTest('applications learn of a sign-out by a frame, and the person continues', async (t) => {
  const page = await open(t, {})
  const { origin } = t.context.idp
  await consent(page, origin, { client_id: 'reports' })
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(welcomeUrl)
  const post_logout_redirect_uri = 'https://rp.example/bye'
  const asked = new URLSearchParams({ client_id: 'reports', post_logout_redirect_uri })
  await page.goto(`${origin}/session/end?${asked}`)
  const framed = page.waitForRequest(/^https:\/\/rp\.example\/front\?/)
  await page.getByRole('button', { name: 'Sign out everywhere' }).click()
  const { searchParams } = new URL((await framed).url())
  t.is(searchParams.get('iss'), origin)
  t.truthy(searchParams.get('sid'))
  await page.waitForURL(post_logout_redirect_uri)
})

browserTest('response_mode=form_post: the engine posts to the app by its own script', async (t) => {
  const page = await open(t, {})
  const parameters = { response_mode: 'form_post', redirect_uri: 'https://rp.example/posted' }
  await page.goto(authorizationUrl(t.context.idp.origin, parameters))
  await signIn(page)
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL('https://rp.example/posted')
  t.is(await page.locator('body').textContent(), 'POST')
})

browserTest('signing out leads back to the app', async (t) => {
  const page = await open(t, {})
  await consent(page, t.context.idp.origin)
  const query = 'client_id=orders&post_logout_redirect_uri=https://rp.example/bye'
  await page.goto(`${t.context.idp.origin}/session/end?${query}`)
  await page.getByRole('button', { name: 'Sign out everywhere' }).click()
  await page.waitForURL('https://rp.example/bye')
  t.is(await page.title(), 'At the app')
})

browserTest('a form on another site gets nowhere', async (t) => {
  const page = await open(t, {})
  await consent(page, t.context.idp.origin)
  const action = `${page.url()}/confirm`
  await page.goto('https://rp.example/')
  await page.setContent(`<form method="post" action="${action}"><button>Win a boat</button></form>`)
  await page.getByRole('button').click()
  await page.waitForURL(action)
  await page.waitForSelector('text=cross_site_request')
  t.is(await page.title(), 'Error: This form came from another site – Holdfast')
})

browserTest('the focus can be seen', async (t) => {
  const page = await open(t, { reducedMotion: 'reduce' })
  await page.goto(authorizationUrl(t.context.idp.origin))
  for (const name of ['email', 'password']) {
    await page.locator(`#${name}`).focus()
    const outline = `getComputedStyle(document.querySelector('#${name}')).outlineWidth`
    t.is(await page.evaluate(outline), '3px')
  }
})
