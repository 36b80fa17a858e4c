// A real browser, at an issuer that has a path.
import test from 'ava'
import { launchBoundChromium, watch } from '../support/bound-chromium.ts'
import { certificateOf, chromiumPath } from '../support/chromium-program.ts'
import { authorizationUrl } from '../support/journey.ts'
import { startNodes } from '../support/nodes.ts'
import { startRelyingParty } from '../support/relying-party.ts'
import { email, password } from '../support/server.ts'
import { trust } from '../support/trust.ts'
import { until } from '../support/until.ts'

const browserTest = chromiumPath === undefined && !process.env.CI ? test.skip : test

browserTest('signs in, has its session bound below the path alone, and signs out', async (t) => {
  await using opened = new AsyncDisposableStack()
  const app = await startRelyingParty()
  opened.defer(() => app.close())
  const nodes = opened.use(
    await startNodes({ HOLDFAST_SESSION_PROOF_SECONDS: '5' }, { path: '/auth' }),
  )
  await trust(nodes)
  const { issuer } = nodes.server
  const redirect_uri = 'https://rp.example/callback'
  const { client_id } = await nodes.server.addClient({
    application_type: 'web',
    redirect_uris: [redirect_uri],
  })
  const certificates = [
    await certificateOf(nodes.port, 'localhost'),
    await certificateOf(Number(app.address.split(':')[1]), 'rp.example'),
  ]
  const hosts = { 'rp.example': app.address, 'app.example': app.address }
  const browser = await launchBoundChromium(certificates, hosts)
  opened.defer(() => browser.close())
  const context = await browser.newContext()
  const { page, saw, registered } = await watch(t, context)

  await page.goto(authorizationUrl(issuer, { client_id, redirect_uri, scope: 'openid' }))
  await page.getByLabel('Email').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await registered()
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(/^https:\/\/app\.example\/welcome\?.*code=/)

  const cookies = await context.cookies(`${issuer}/security`)
  const nameOf = (name: string) => name.replace(/(?<=^__Host-holdfast_browser\.).*/, 'ID')
  t.deepEqual(cookies.map(({ name, path }) => `${nameOf(name)} ${path}`).sort(), [
    '__Host-holdfast_browser.ID /',
    '__Secure-holdfast_bound /auth',
    '__Secure-holdfast_page_key /auth',
    '__Secure-holdfast_session /auth',
    '__Secure-holdfast_session.sig /auth',
  ])
  // By itself it opens nothing.
  const elsewhere = await context.cookies(new URL('/other', issuer).href)
  t.deepEqual(
    elsewhere.map(({ name }) => nameOf(name)),
    ['__Host-holdfast_browser.ID'],
  )

  const companions = async () =>
    (await context.cookies(issuer)).filter(({ name }) => name === '__Secure-holdfast_bound')
  await until(async () => (await companions()).length === 0)
  await page.goto(`${issuer}/security/sessions`)
  await saw(({ refreshEventDetails: refresh }) => refresh?.refreshResult === 'Refreshed')
  await page.locator('p.held', { hasText: 'Locked to a key of its browser' }).waitFor()
  t.regex(await page.locator('.brand img').getAttribute('src').then(String), /^\/auth\/assets\//)
  t.true(
    await page
      .locator('.brand img')
      .evaluate((image) => 'naturalWidth' in image && image.naturalWidth !== 0),
  )

  await page.getByRole('link', { name: 'Sign out' }).click()
  await page.getByRole('button', { name: 'Sign out everywhere in this browser' }).click()
  await page.getByText('You are signed out').waitFor()
  // A refresh that was under way may bring the short-lived cookie once more; it runs out by itself.
  await until(async () => (await companions()).length === 0)
  const kept = await context.cookies(issuer)
  t.deepEqual(
    kept.map(({ name }) => nameOf(name)),
    ['__Host-holdfast_browser.ID'],
  )
})
