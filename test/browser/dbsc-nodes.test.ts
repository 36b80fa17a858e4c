// Two nodes of one identity provider, between which a real nginx alternates request by request.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import tls from 'node:tls'
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import { parseConfig } from '../../src/config/config.ts'
import { freePort } from '../../src/net/free-port.ts'
import { createLog } from '../../src/observability/log.ts'
import { startServer } from '../../src/server.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { launchBoundChromium, watch } from '../support/bound-chromium.ts'
import { createAuthority } from '../support/certificates.ts'
import { certificateOf, chromiumPath } from '../support/chromium-program.ts'
import { challengeOf, letMomentPass, signInAt } from '../support/device.ts'
import { authorizationUrl } from '../support/journey.ts'
import { startProxy, testWith } from '../support/proxies.ts'
import { type RelyingParty, startRelyingParty } from '../support/relying-party.ts'
import { email, password, startTestServer, type TestServer } from '../support/server.ts'
import { until } from '../support/until.ts'
import { refreshProof } from '../support/verify/dbsc.ts'

interface Served {
  readonly path: string
  readonly status: string
  readonly node: string
}

interface Environment {
  opened: AsyncDisposableStack
  server: TestServer
  app: RelyingParty
  clientId: string
  /** What the proxy has passed on, in its order. */
  served(): Promise<Served[]>
}

const test = anyTest as TestFn<Environment>
const nodesTest = testWith(test as TestFn, 'nginx') as typeof test
const browserTest = chromiumPath === undefined && !process.env.CI ? test.skip : nodesTest

if (chromiumPath === undefined) {
  process.stderr.write('SKIPPED without CI: no Chromium found. apt-get install chromium\n')
}

const callback = 'https://rp.example/callback'
const welcome = /^https:\/\/app\.example\/welcome\?/

test.before(async (t) => {
  const opened = new AsyncDisposableStack()
  Object.assign(t.context, { opened })
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-two-nodes-'))
  opened.defer(() => rm(folder, { recursive: true, force: true }))
  const log = path.join(folder, 'access.log')
  const [one, two] = [await freePort(), await freePort()]
  const proxy = opened.use(
    await startProxy('nginx', {
      upstream: one,
      authority: await createAuthority(),
      edit: (configuration) =>
        `log_format nodes '$uri $status $upstream_addr'; ${configuration}`
          .replace(/server \$\{HOLDFAST_UPSTREAM\};/, `$& server 127.0.0.1:${two};`)
          .replace(/server_name \$\{PUBLIC_NAME\};/, `$& access_log ${log} nodes;`),
    }),
  )
  tls.setDefaultCACertificates([...tls.getCACertificates('default'), proxy.ca])
  const environment = {
    HOLDFAST_TLS: 'off',
    HOLDFAST_ISSUER: proxy.publicOrigin,
    HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
    HOLDFAST_SECRET: 'a secret that both nodes have in common',
  }
  const server = opened.use(await startTestServer({ ...environment, HOLDFAST_PORT: String(one) }))
  const config = parseConfig({
    ...environment,
    HOLDFAST_PORT: String(two),
    DATABASE_URL: server.databaseUrl,
  })
  const storage = opened.use(await openStorage({ ...config, onError: () => {} }))
  opened.use(await startServer(config, storage, createLog('silent')))
  const app = await startRelyingParty()
  opened.defer(() => app.close())
  const { client_id: clientId } = await server.addClient({
    application_type: 'web',
    redirect_uris: [callback],
  })
  const served = async () =>
    (await readFile(log, 'utf8'))
      .split('\n')
      .filter(Boolean)
      .map((line) => {
        const [at = '', status = '', node = ''] = line.split(' ')
        return { path: at, status, node }
      })
  Object.assign(t.context, { server, app, clientId, served })
})

test.after.always((t) => t.context.opened?.disposeAsync())

const request = ({ context: { clientId } }: ExecutionContext<Environment>) => ({
  client_id: clientId,
  redirect_uri: callback,
  scope: 'openid',
})

browserTest('a session is bound at one node and refreshed at the other', async (t) => {
  t.truthy(chromiumPath, 'Chromium is missing: apt-get install chromium')
  const { server, app, served } = t.context
  const { port } = new URL(server.issuer)
  const certificates = [
    await certificateOf(Number(port), 'localhost'),
    await certificateOf(Number(app.address.split(':')[1]), 'rp.example'),
  ]
  const hosts = { 'rp.example': app.address, 'app.example': app.address }
  const browser = await launchBoundChromium(certificates, hosts)
  t.teardown(() => browser.close())
  const context = await browser.newContext()
  const { page, registered } = await watch(t, context)
  const address = authorizationUrl(server.issuer, request(t))
  await page.goto(address)
  await page.getByLabel('Email').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  const session = await registered()
  await page.getByRole('button', { name: 'Allow' }).click()
  await page.waitForURL(welcome)
  await letMomentPass(server.databaseUrl, session)

  // Each success hands out the challenge that the next one answers.
  const successes = async () =>
    (await served()).filter(({ path: at, status }) => at.startsWith('/dbsc/') && status === '200')
  const changes = async () =>
    (await successes()).filter(({ node }, at, all) => at > 0 && node !== all[at - 1]?.node).length
  let oneMore = false
  await until(async () => {
    const before = await changes()
    await context.clearCookies({ name: '__Host-holdfast_bound' })
    await page.goto('https://rp.example/')
    await page.evaluate(`location.href = ${JSON.stringify(`${address}&prompt=none`)}`)
    await page.waitForURL(welcome)
    t.regex(page.url(), /code=/)
    // An even number of requests each time leads to the same node each time.
    if ((await changes()) === before) oneMore = !oneMore
    if (oneMore) await fetch(`${server.issuer}/livez`)
    return (await changes()) >= 2
  })
  t.is((await successes())[0]?.path, '/dbsc/registration')
  t.is(new Set((await successes()).map(({ node }) => node)).size, 2)
})

nodesTest('a proof that one node has seen is of no use at the other', async (t) => {
  const { server, served } = t.context
  const { device, offer } = await signInAt(server, request(t))
  t.is((await device.register(offer)).status, 200)
  const proof = refreshProof({ jti: challengeOf(await device.ask()) }, {}, device.key)
  const before = (await served()).length
  const answers = await Promise.all(Array.from({ length: 8 }, () => device.ask(proof)))
  t.is(answers.filter(({ status }) => status === 200).length, 1)
  t.is((await device.ask(proof)).status, 403)
  const asked = (await served()).slice(before).filter(({ path: at }) => at === '/dbsc/refresh')
  t.is(new Set(asked.map(({ node }) => node)).size, 2)
})
