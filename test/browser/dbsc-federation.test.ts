import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import type { Browser } from 'playwright-core'
import { developmentCertificate } from '../../src/http/development-authority.ts'
import { launchBoundChromium, watch } from '../support/bound-chromium.ts'
import { createBoundRelyingParty } from '../support/bound-relying-party.ts'
import { certificateOf, chromiumPath } from '../support/chromium-program.ts'
import { type Nodes, startNodes } from '../support/nodes.ts'
import { email, password } from '../support/server.ts'
import { trust } from '../support/trust.ts'
import { until } from '../support/until.ts'

type App = Awaited<ReturnType<typeof createBoundRelyingParty>>

interface Environment {
  nodes: Nodes
  browser: Browser
  app: App
  opened: AsyncDisposableStack
}

const test = anyTest as TestFn<Environment>
const browserTest = chromiumPath === undefined && !process.env.CI ? test.skip : test

if (chromiumPath === undefined) {
  process.stderr.write('SKIPPED without CI: no Chromium found. apt-get install chromium\n')
}

const origin = 'https://rp.example'

test.before(async (t) => {
  if (chromiumPath === undefined) return
  const opened = new AsyncDisposableStack()
  Object.assign(t.context, { opened })
  const nodes = opened.use(await startNodes({ HOLDFAST_SESSION_PROOF_SECONDS: '5' }))
  await trust(nodes)
  const client = await nodes.server.addClient({
    application_type: 'web',
    token_endpoint_auth_method: 'client_secret_basic',
    redirect_uris: [`${origin}/callback`],
    session_policy: { federation: true },
  })
  const app = await createBoundRelyingParty({
    issuer: nodes.server.issuer,
    clientId: client.client_id,
    clientSecret: client.client_secret ?? '',
    origin,
    lifetime: 5,
  })
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-app-'))
  opened.defer(() => rm(folder, { recursive: true }))
  const site = createServer(await developmentCertificate(folder, ['rp.example']), (req, res) => {
    // The certificate's name is all that a browser sees of where it really is.
    Object.assign(req.headers, { host: 'rp.example' })
    app.app.callback()(req, res)
  })
  site.listen(0, '127.0.0.1')
  await once(site, 'listening')
  opened.defer(() => {
    site.closeAllConnections()
    site.close()
  })
  const { port } = site.address() as AddressInfo
  const certificates = [
    await certificateOf(nodes.port, 'localhost'),
    await certificateOf(port, 'rp.example'),
  ]
  const browser = await launchBoundChromium(certificates, { 'rp.example': `127.0.0.1:${port}` })
  opened.defer(() => browser.close())
  Object.assign(t.context, { nodes, app, browser })
})

test.after.always((t) => t.context.opened?.disposeAsync())

async function openPage(t: ExecutionContext<Environment>) {
  t.truthy(t.context.browser, 'Chromium is missing: apt-get install chromium')
  const context = await t.context.browser.newContext()
  t.teardown(() => context.close())
  return { context, ...(await watch(t, context)) }
}

browserTest('the session of an app is on the key of the session at the provider', async (t) => {
  const { nodes, app } = t.context
  const { context, page, registered, events, saw } = await openPage(t)
  await page.goto(`${origin}/login`)
  await page.getByLabel('Email').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  const providerSession = await registered()
  const before = events.length
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(`${origin}/`)
  const appSession = await registered(before)

  const session = app.sessions.get(appSession)
  const binding = (await nodes.server.storage.browserSessions.find(providerSession))?.binding
  t.truthy(binding?.jkt)
  t.is(session?.registration?.jkt, binding?.jkt)
  t.is(session?.provider?.session, providerSession)
  t.is(session?.provider?.key, binding?.jkt)

  await until(async () =>
    (await context.cookies(origin)).every(({ name }) => name !== '__Host-bound'),
  )
  const then = events.length
  await page.goto(`${origin}/`)
  t.regex(await page.locator('p').innerText(), /, bound$/)
  await saw(
    ({ sessionId, refreshEventDetails: refresh }) =>
      sessionId === appSession && refresh?.refreshResult === 'Refreshed',
    then,
  )
})

browserTest('tells browsers which apps may use the key of the provider', async (t) => {
  const { nodes } = t.context
  const { page } = await openPage(t)
  const answer = await page.goto(`${nodes.server.issuer}/.well-known/device-bound-sessions`)
  t.deepEqual(await answer?.json(), { relying_origins: [origin] })
})
