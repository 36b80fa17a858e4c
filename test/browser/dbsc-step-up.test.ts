import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { makeTicket } from '../../packages/verify/lib/ticket.ts'
import { boundSessionAcr } from '../../src/accounts/acr.ts'
import { secretsOf } from '../../src/engine/engine-keys.ts'
import { launchBoundChromium, type WatchedPage, watch } from '../support/bound-chromium.ts'
import { certificateOf, chromiumPath } from '../support/chromium-program.ts'
import { letMomentPass } from '../support/device.ts'
import { authorizationUrl } from '../support/journey.ts'
import { type Nodes, startNodes } from '../support/nodes.ts'
import { type RelyingParty, startRelyingParty } from '../support/relying-party.ts'
import { email, password } from '../support/server.ts'
import { trust } from '../support/trust.ts'

interface Environment {
  nodes: Nodes
  app: RelyingParty
  browser: Browser
  strict: ClientMetadata
  lenient: ClientMetadata
}

const test = anyTest as TestFn<Environment>
const browserTest = chromiumPath === undefined && !process.env.CI ? test.skip : test

if (chromiumPath === undefined) {
  process.stderr.write('SKIPPED without CI: no Chromium found. apt-get install chromium\n')
}

const callback = 'https://rp.example/callback'
const welcome = /^https:\/\/app\.example\/welcome\?/
const boundCookie = '__Host-holdfast_bound'

test.before(async (t) => {
  if (chromiumPath === undefined) return
  const app = await startRelyingParty()
  // A proof is good for as long as in production: nothing is refreshed ahead of its time.
  const nodes = await startNodes({
    HOLDFAST_SESSION_REFRESH_INITIATORS: 'rp.example',
  })
  Object.assign(t.context, { app, nodes })
  await trust(nodes)
  const web = { application_type: 'web', redirect_uris: [callback] } as const
  const lenient = await nodes.server.addClient(web)
  const strict = await nodes.server.addClient({ ...web, session_policy: { proof_max_age: 10 } })
  const certificates = await Promise.all([
    certificateOf(nodes.port, 'localhost'),
    certificateOf(Number(app.address.split(':')[1]), 'rp.example'),
  ])
  const hosts = { 'rp.example': app.address, 'app.example': app.address }
  const browser = await launchBoundChromium(certificates, hosts)
  Object.assign(t.context, { browser, strict, lenient })
})

test.after.always(async ({ context: { browser, nodes, app } }) => {
  await browser?.close()
  await nodes?.[Symbol.asyncDispose]()
  await app?.close()
})

type Test = ExecutionContext<Environment>

const addressOf = (
  { context: { nodes } }: Test,
  { client_id }: ClientMetadata,
  more: Record<string, string> = {},
) =>
  authorizationUrl(nodes.server.issuer, {
    client_id,
    redirect_uri: callback,
    scope: 'openid',
    ...more,
  })

async function typePassword(page: Page): Promise<void> {
  await page.getByLabel('Email').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
}

async function allow(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(welcome)
}

type SignedIn = WatchedPage & { context: BrowserContext; session: string }

/** Somebody signed in with an app, in a browser of which it is certain that it registered a key. */
async function signedIn(t: Test, client: ClientMetadata, more = {}): Promise<SignedIn> {
  t.truthy(t.context.browser, 'Chromium is missing: apt-get install chromium')
  const context = await t.context.browser.newContext()
  t.teardown(() => context.close())
  const watched = await watch(t, context)
  const { page } = watched
  await page.goto(addressOf(t, client, more))
  await typePassword(page)
  const session = await watched.registered()
  await allow(page)
  t.regex(page.url(), /code=/)
  return { ...watched, context, session }
}

/** The paths of this server that a page was answered at, with their statuses. */
function answersOf({ context: { nodes } }: Test, page: Page): string[] {
  const answers: string[] = []
  page.on('response', (response) => {
    const { origin, pathname } = new URL(response.url())
    const [, first, , last = ''] = pathname.split('/')
    if (origin === nodes.server.issuer) answers.push(`${first}/${last} ${response.status()}`)
  })
  return answers
}

browserTest('a fresh proof on demand, before consent', async (t) => {
  const { nodes, strict } = t.context
  const { page, context, session, events, saw } = await signedIn(t, strict)
  await letMomentPass(nodes.server.databaseUrl, session)
  const [sessionBindingKey] = secretsOf(nodes.server.keys.view(), 'session-binding') as [Buffer]
  const halfMinuteAgo = Date.now() - 30_000
  await context.addCookies([
    {
      name: boundCookie,
      value: makeTicket(sessionBindingKey, ['companion', session], halfMinuteAgo),
      domain: 'localhost',
      path: '/',
      secure: true,
      httpOnly: true,
      sameSite: 'Lax',
      expires: Math.floor(halfMinuteAgo / 1000) + 570,
    },
  ])
  const before = events.length
  const answers = answersOf(t, page)
  await page.goto(addressOf(t, strict, { scope: 'openid email' }))
  await page.getByRole('button', { name: 'Allow' }).waitFor()
  const at = await saw(({ refreshEventDetails: refresh }) => refresh !== undefined, before)
  t.like(events[at], {
    sessionId: session,
    refreshEventDetails: { refreshResult: 'Refreshed', wasFullyProactiveRefresh: false },
  })
  t.deepEqual(
    answers.filter((answer) => /^(interaction|authorize)/.test(answer)),
    [
      'authorize/ 303',
      'interaction/proof 200',
      'interaction/proof 303',
      'authorize/ 303',
      'interaction/ 200',
    ],
  )
  await allow(page)
  t.regex(page.url(), /code=/)
  t.is(events.length, at + 1, 'one proof is enough')
})

browserTest('an app that must have a bound session gets one', async (t) => {
  const { nodes, lenient } = t.context
  const acr = { essential: true, value: boundSessionAcr }
  const claims = JSON.stringify({ id_token: { acr } })
  const { page } = await signedIn(t, lenient, { claims })
  const code = new URL(page.url()).searchParams.get('code') ?? ''
  t.is((await nodes.server.provider.AuthorizationCode.find(code))?.acr, boundSessionAcr)
})

for (const [app, hops] of [
  ['rp.example', 0],
  ['app.example', 1],
] as const) {
  browserTest(
    `${hops ? 'one page' : 'no page'} in between for those who come from ${app}`,
    async (t) => {
      const { nodes, lenient } = t.context
      const { page, context, session, events, saw } = await signedIn(t, lenient)
      await letMomentPass(nodes.server.databaseUrl, session)
      await context.clearCookies({ name: boundCookie })
      await page.goto(`https://${app}/`)
      const before = events.length
      const answers = answersOf(t, page)
      await page.evaluate(`location.href = ${JSON.stringify(addressOf(t, lenient))}`)
      await page.waitForURL(welcome)
      t.regex(page.url(), /code=/)
      t.deepEqual(
        answers.filter((answer) => answer.startsWith('authorize')),
        [...(hops ? ['authorize/ 200'] : []), 'authorize/ 303'],
      )
      await saw(
        ({ refreshEventDetails: refresh }) => refresh?.refreshResult === 'Refreshed',
        before,
      )
    },
  )
}

browserTest('while a proof is good, no page costs a signature', async (t) => {
  const { nodes, lenient } = t.context
  const { page, events } = await signedIn(t, lenient)
  for (const _ of Array(4)) {
    await page.goto(addressOf(t, lenient))
    await page.goto(`${nodes.server.issuer}/security/sessions`)
    await page.getByText('this browser').waitFor()
  }
  t.deepEqual(
    events.filter(({ refreshEventDetails: refresh }) => refresh !== undefined),
    [],
  )
})
