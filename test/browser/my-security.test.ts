import { mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import anyTest, { type TestFn } from 'ava'
import type { Browser } from 'playwright-core'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { makePrintedCode, printedCodeDigest } from '../../src/accounts/one-time-codes.ts'
import { freePort } from '../../src/net/free-port.ts'
import { cheapCost } from '../support/accounts.ts'
import { launchBoundChromium, watch } from '../support/bound-chromium.ts'
import { certificateOf, chromiumPath } from '../support/chromium-program.ts'
import { signInAt } from '../support/device.ts'
import { type Examples, printed, startExamples } from '../support/examples.ts'
import { useFolder } from '../support/folder.ts'
import { authorizationUrl } from '../support/journey.ts'
import { looks } from '../support/looks.ts'
import { type Nodes, startNodes } from '../support/nodes.ts'
import { query } from '../support/query.ts'
import { type RelyingParty, startRelyingParty } from '../support/relying-party.ts'
import { email, password } from '../support/server.ts'
import { linkOf, type SmtpReceiver, startSmtp } from '../support/smtp.ts'
import { trust } from '../support/trust.ts'

interface Environment {
  smtp: SmtpReceiver
  nodes: Nodes
  app: RelyingParty
  browser: Browser
  examples: Examples
  /** The origin of the single-page application, which its API names in CORS. */
  appUrl: string
}

const artefacts = `${import.meta.dirname}/../artefacts`
const axeSource = readFileSync(
  createRequire(import.meta.url).resolve('axe-core/axe.min.js'),
  'utf-8',
)

const test = anyTest as TestFn<Environment>
const folder = useFolder(test)
const browserTest = chromiumPath === undefined && !process.env.CI ? test.skip : test

if (chromiumPath === undefined) {
  process.stderr.write('SKIPPED without CI: no Chromium found. apt-get install chromium\n')
}

test.before(async (t) => {
  if (chromiumPath === undefined) return
  mkdirSync(artefacts, { recursive: true })
  const app = await startRelyingParty()
  const smtp = await startSmtp()
  const nodes = await startNodes({
    HOLDFAST_ACCOUNT_SELF_SERVICE: 'name, email, locale, export, delete',
    HOLDFAST_SMTP_URL: `smtp://127.0.0.1:${smtp.port}`,
    HOLDFAST_MAIL_FROM: 'no-reply@example.com',
    HOLDFAST_SIGN_UP: 'invitation',
  })
  await trust(nodes)
  const { authorityFile } = nodes
  const appUrl = `http://127.0.0.1:${await freePort()}`
  const examples = await startExamples(nodes.server, { folder, authorityFile }, { APP: appUrl })
  const certificates = await Promise.all([
    certificateOf(nodes.port, 'localhost'),
    certificateOf(Number(app.address.split(':')[1]), 'rp.example'),
    certificateOf(Number(new URL(examples.api).port), 'localhost'),
  ])
  const hosts = { 'rp.example': app.address, 'app.example': app.address }
  const browser = await launchBoundChromium(certificates, hosts)
  Object.assign(t.context, { smtp, nodes, app, browser, examples, appUrl })
})

test.after.always(async ({ context: { browser, nodes, app, examples, smtp } }) => {
  await browser?.close()
  await examples?.[Symbol.asyncDispose]()
  await nodes?.[Symbol.asyncDispose]()
  await app?.close()
  await smtp?.[Symbol.asyncDispose]()
})

/** An invitation of one use. */
async function invite({ storage }: Nodes['server']) {
  const code = makePrintedCode()
  const about = { name: 'One person', groups: [], uses: 1, lifetimeS: 3600 }
  const digest = printedCodeDigest(code) as Buffer
  return { code, ...(await storage.signUps.insertInvitation(digest, about)) }
}

browserTest('signs up by an invitation without a script, and continues to the app', async (t) => {
  t.truthy(t.context.browser, 'Chromium is missing: apt-get install chromium')
  const { server } = t.context.nodes
  const { client_id } = await server.addClient({
    application_type: 'web',
    client_name: 'Harbour Charts',
    redirect_uris: ['https://rp.example/callback'],
  })
  const { code } = await invite(server)
  const context = await t.context.browser.newContext({ javaScriptEnabled: false })
  t.teardown(() => context.close())
  const page = await context.newPage()
  const request = { client_id, redirect_uri: 'https://rp.example/callback', scope: 'openid' }
  await page.goto(authorizationUrl(server.issuer, request))
  await page.getByRole('link', { name: 'Create an account' }).click()
  await page.getByLabel('Code of the invitation').fill(code)
  const own = 'lin@example.com'
  await page.getByLabel('Email').fill(own)
  await page.getByRole('button', { name: 'Continue' }).click()
  await page.getByText('Look at your mail').waitFor()
  await page.goto(linkOf(await t.context.smtp.mailTo(own)))
  await page.getByRole('button', { name: 'Create the account' }).click()
  await page.getByLabel('New password').fill(password)
  await page.getByRole('button', { name: 'Set this password' }).click()
  await page.getByText('You can sign in now').waitFor()
  await page.getByRole('link', { name: 'Sign in' }).click()
  await page.getByText('Harbour Charts').waitFor()
  await page.getByLabel('Email').fill(own)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(/welcome/)
  t.regex(page.url(), /code=/)
})

browserTest('My security: bound, accessible, and with a way to end what is not', async (t) => {
  t.truthy(t.context.browser, 'Chromium is missing: apt-get install chromium')
  const { server } = t.context.nodes
  const { client_id } = await server.addClient({
    application_type: 'web',
    client_name: 'Harbour Orders',
    redirect_uris: ['https://rp.example/callback'],
  })
  const request = { client_id, redirect_uri: 'https://rp.example/callback', scope: 'openid' }
  await signInAt(server, request)
  const context = await t.context.browser.newContext({
    reducedMotion: 'reduce',
    timezoneId: 'Asia/Tokyo',
  })
  t.teardown(() => context.close())
  const { page, registered } = await watch(t, context)
  await page.goto(authorizationUrl(server.issuer, request))
  await page.getByLabel('Email').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await registered()
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(/welcome/)

  await page.goto(`${server.issuer}/security`)
  const pages = page.getByRole('navigation').getByRole('link')
  const titles = new Set<string>()
  async function look(state: string) {
    titles.add(await page.title())
    for (const [name, { colorScheme = 'light', viewport = null }] of Object.entries(looks)) {
      await page.emulateMedia({ colorScheme })
      if (viewport) await page.setViewportSize(viewport)
      await page.screenshot({ path: `${artefacts}/account-${state}-${name}.png`, fullPage: true })
      const width = await page.evaluate<number>('document.documentElement.scrollWidth')
      t.true(width <= (viewport?.width ?? 0), `${state}, ${name} is ${width} px wide`)
      await page.evaluate(axeSource)
      const { passes, violations } = await page.evaluate<{
        passes: unknown[]
        violations: { id: string; nodes: { html: string }[] }[]
      }>('axe.run(document)')
      t.true(passes.length > 10)
      t.deepEqual(
        violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`),
        [],
        state,
      )
    }
  }
  for (const at of Array.from({ length: await pages.count() }, (_, each) => each)) {
    await pages.nth(at).click()
    const current = page.locator('nav [aria-current=page]')
    await current.and(pages.nth(at)).waitFor()
    await look(String(page.url().split('/').at(-1)))
  }
  for (const change of [
    'profile/name',
    'profile/email',
    'password',
    'code-app',
    'data/export',
    'data/delete',
  ]) {
    await page.goto(`${server.issuer}/security/${change}`)
    await look(change.replace('/', '-'))
  }
  // From the confirmed page on, and with a mistake.
  await page.goto(`${server.issuer}/security/code-app`)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Continue with your password' }).click()
  await page.getByLabel('Then type the code').fill('000000')
  await look('new-code-app')
  await page.getByRole('button', { name: 'Finish' }).click()
  await page.getByRole('alert').waitFor()
  await look('new-code-app-error')
  await page.goto(`${server.issuer}/security/profile/email`)
  const anotherEmail = 'ada@another.example'
  await page.getByLabel('New email').fill(anotherEmail)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Continue with your password' }).click()
  await page.getByText('Look at your mail').waitFor()
  await look('email-sent')
  const link = linkOf(await t.context.smtp.mailTo(anotherEmail))
  await page.goto(link)
  await look('email-confirm')
  const accounts = createAccounts({ store: server.storage.accounts, cost: cheapCost })
  await accounts.add({ email: anotherEmail })
  await page.getByRole('button', { name: 'Confirm this address' }).click()
  await page.getByText('Another account has this address').waitFor()
  await look('email-taken')
  await accounts.remove(anotherEmail)
  await page.goto(link)
  await page.getByRole('button', { name: 'Confirm this address' }).click()
  await page.getByText('Your email was changed').waitFor()
  await look('email-done')
  await accounts.change(anotherEmail, { email })
  const { code, id } = await invite(server)
  await page.goto(`${server.issuer}/sign-up`)
  await page.getByLabel('Code of the invitation').fill('a guess')
  await page.getByLabel('Email').fill('mallory@example.com')
  await page.getByRole('button', { name: 'Continue' }).click()
  await page.getByRole('alert').waitFor()
  await look('sign-up-code-error')
  await page.getByLabel('Code of the invitation').fill(code)
  await page.getByRole('button', { name: 'Continue' }).click()
  const signUp = linkOf(await t.context.smtp.mailTo('mallory@example.com'))
  await page.goto(signUp)
  await query(
    server.databaseUrl,
    `update invitations set uses_left = 0 where digest = decode($1, 'hex')`,
    [id],
  )
  await page.getByRole('button', { name: 'Create the account' }).click()
  await page.getByText('This invitation is used up').waitFor()
  await look('sign-up-used-up')
  await server.storage.signUps.removeInvitation(id)
  t.is(titles.size, 19)
  await page.goto(`${server.issuer}/security/sessions`)
  await page.locator('time', { hasText: 'GMT+9' }).first().waitFor()
  await page.getByText('Not locked to a key').waitFor()
  await page.getByRole('button', { name: /^Sign out Unknown browser Since .*GMT\+9/ }).click()
  await page.getByText('Not locked to a key').waitFor({ state: 'detached' })
  await page.locator('.held', { hasText: 'its browser' }).waitFor()
})

browserTest('My security, without a session: a sign-in that is bound, and the page', async (t) => {
  t.truthy(t.context.browser, 'Chromium is missing: apt-get install chromium')
  const { server } = t.context.nodes
  const context = await t.context.browser.newContext()
  t.teardown(() => context.close())
  const { page, registered } = await watch(t, context)
  const accounts = createAccounts({ store: server.storage.accounts, cost: cheapCost })
  await accounts.add({ email: 'eve@example.com', password })
  await page.goto(`${server.issuer}/security`)
  await page.getByText('to continue to My security').waitFor()
  await page.getByLabel('Email').fill('eve@example.com')
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await registered()
  await page.waitForURL(`${server.issuer}/security/sign-in`)
  await page.goto(`${server.issuer}/security/sessions`)
  await page.locator('li', { hasText: 'this browser' }).locator('.held').waitFor()
})

browserTest('a single-page app signs in and calls the API with a key it cannot read', async (t) => {
  t.truthy(t.context.browser, 'Chromium is missing: apt-get install chromium')
  const { appUrl, examples, nodes } = t.context
  const { client_id } = await nodes.server.addClient({ redirect_uris: [`${appUrl}/`] })
  const accounts = createAccounts({ store: nodes.server.storage.accounts, cost: cheapCost })
  await accounts.add({ email: 'grace@example.com', password })
  // It serves examples/single-page-app/app.js.
  const serving = examples.start('single-page-app/main.js', { CLIENT_ID: client_id })
  await printed(serving, /The application listens/)
  const context = await t.context.browser.newContext()
  t.teardown(() => context.close())
  const page = await context.newPage()
  await page.goto(appUrl)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByLabel('Email').fill('grace@example.com')
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.getByText('a harbour map').waitFor()
  t.regex(await page.locator('output').textContent().then(String), /"proven":\["dpop"\]/)
})
