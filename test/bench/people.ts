/*
 * What people notice: the steps and seconds of a first sign-in in Chromium, from a one-time link to
 * the code of an application, with a virtual authenticator that answers at once; the bytes of
 * scripts that each page loads; and sign-ins by passkey beside those by a password with the Argon2 of
 * production, one after another, in rounds that alternate. About a minute.
 *
 * npm run bench:people
 */

import { createAccountLinks } from '../../src/accounts/account-links.ts'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { defaultPasswordCost } from '../../src/accounts/password.ts'
import { asTable } from '../../src/commands/table.ts'
import { linkAddress } from '../../src/http/routes.ts'
import {
  type Authenticator,
  createAuthenticator,
  passkeyOptions,
} from '../support/authenticator.ts'
import { launchBoundChromium } from '../support/bound-chromium.ts'
import { certificateOf } from '../support/chromium-program.ts'
import { authorizationUrl, begin, signIn } from '../support/journey.ts'
import { startNodes } from '../support/nodes.ts'
import { startRelyingParty } from '../support/relying-party.ts'
import { startTestServer, type TestServer } from '../support/server.ts'
import { trust } from '../support/trust.ts'
import { createUserAgent } from '../support/user-agent.ts'
import { addVirtualAuthenticator } from '../support/virtual-authenticator.ts'

const callback = 'https://rp.example/callback'
const password = 'a mast, a keel and nine sails'
const rounds = 5
const signInsOfRound = 20

const addClient = (server: TestServer) =>
  server.addClient({ application_type: 'web', redirect_uris: [callback] })

const linksOf = ({ storage, issuer }: TestServer) =>
  createAccountLinks({
    table: storage.accountLinks,
    store: storage.accounts,
    address: linkAddress(issuer),
  })

/** From the link to the code: what a person presses, how long it takes, and what pages load. */
async function measureFirstSignIn() {
  await using opened = new AsyncDisposableStack()
  const app = await startRelyingParty()
  opened.defer(() => app.close())
  const nodes = opened.use(await startNodes({}))
  await trust(nodes)
  const { server } = nodes
  const { client_id } = await addClient(server)
  const certificates = await Promise.all([
    certificateOf(nodes.port, 'localhost'),
    certificateOf(Number(app.address.split(':')[1]), 'rp.example'),
  ])
  const hosts = { 'rp.example': app.address, 'app.example': app.address }
  const browser = await launchBoundChromium(certificates, hosts)
  opened.defer(() => browser.close())
  const accounts = createAccounts({ store: server.storage.accounts })
  const seconds: number[] = []
  const scripts = new Map<string, number>()
  let steps = 0
  for (let person = 0; person < 3; person += 1) {
    const email = `person-${person}@example.com`
    await accounts.add({ email })
    const { link } = await linksOf(server).invite(email)
    const context = await browser.newContext({ reducedMotion: 'reduce' })
    const page = await context.newPage()
    await addVirtualAuthenticator(page)
    const press = (name: string) => {
      steps += 1
      return page.getByRole('button', { name }).click({ noWaitAfter: true })
    }
    /** Sizes of the scripts that the page names. */
    async function note(name: string) {
      const urls = await page.evaluate<string[]>(
        '[...document.scripts].map((each) => each.src).filter(Boolean)',
      )
      const bodies = await Promise.all(urls.map(async (url) => (await fetch(url)).arrayBuffer()))
      scripts.set(
        name,
        bodies.reduce((sum, { byteLength }) => sum + byteLength, 0),
      )
    }
    steps = 1
    const began = performance.now()
    await page.goto(link)
    await press('Create the passkey')
    await page.getByText('Your passkey was added').waitFor()
    steps += 1
    await page.goto(
      authorizationUrl(server.issuer, {
        ...{ client_id, redirect_uri: callback, scope: 'openid' },
        claims: JSON.stringify({
          id_token: {
            acr: { essential: true, value: 'urn:holdfast:acr:passkey-and-bound-session' },
          },
        }),
      }),
    )
    await press('Use a passkey')
    await press('Allow')
    await page.waitForURL(/code=/)
    seconds.push((performance.now() - began) / 1000)
    if (person === 0) {
      for (const name of ['profile', 'sign-in', 'sessions', 'applications', 'activity']) {
        await page.goto(`${server.issuer}/security/${name}`)
        await note(`/security/${name}`)
      }
      for (const name of ['passkeys/add', 'password', 'code-app']) {
        await page.goto(`${server.issuer}/security/${name}`)
        await note(`/security/${name}`)
      }
      const { link: another } = await linksOf(server).invite(email)
      await page.goto(another)
      await note('the page of a one-time link')
      const fresh = await browser.newContext()
      const { request } = fresh
      const shown = await request.get(
        authorizationUrl(server.issuer, { client_id, redirect_uri: callback }),
      )
      const found = [...(await shown.text()).matchAll(/<script src="([^"]+)"/g)]
      const sizes = await Promise.all(
        found.map(async ([, url = '']) => (await fetch(new URL(url, server.issuer))).arrayBuffer()),
      )
      scripts.set(
        'the sign-in page',
        sizes.reduce((sum, { byteLength }) => sum + byteLength, 0),
      )
      await fresh.close()
    }
    await context.close()
  }
  return { steps, seconds: seconds.sort((a, b) => a - b), scripts }
}

/** Sign-ins of one person by a password and by a passkey, one after another. */
async function measureRates() {
  await using server = await startTestServer({}, { passwordCost: defaultPasswordCost })
  const { issuer, storage } = server
  const { client_id } = await addClient(server)
  const accounts = createAccounts({ store: storage.accounts, cost: defaultPasswordCost })
  await accounts.add({ email: 'word@example.com', password })
  await accounts.add({ email: 'key@example.com' })
  const { link } = await linksOf(server).invite('key@example.com')
  const authenticator: Authenticator = createAuthenticator(issuer)
  const agent = createUserAgent(issuer)
  const options = passkeyOptions<Parameters<Authenticator['create']>[0]>(
    (await agent.get(link)).text,
  )
  await agent.post(`${link}/passkey`, { credential: authenticator.create(options), name: 'Laptop' })
  const open = () =>
    begin({ origin: issuer }, { client_id, redirect_uri: callback, scope: 'openid' })
  const ways = {
    password: async () => signIn(await open(), { email: 'word@example.com', password }),
    passkey: async () => {
      const login = await open()
      const credential = authenticator.get(passkeyOptions(login.page.text))
      return login.agent.post(`${login.url}/passkey`, { token: login.token, credential })
    },
  }
  async function rate(way: () => Promise<{ status: number }>) {
    const [began, cpu] = [performance.now(), process.cpuUsage()]
    for (let count = 0; count < signInsOfRound; count += 1) {
      const { status } = await way()
      if (status !== 303) throw new Error(`a sign-in got ${status}`)
    }
    const { user, system } = process.cpuUsage(cpu)
    return {
      perSecond: (signInsOfRound * 1000) / (performance.now() - began),
      cpuMs: (user + system) / 1000 / signInsOfRound,
    }
  }
  for (const way of Object.values(ways)) await rate(way)
  const measured = { password: [] as Rate[], passkey: [] as Rate[] }
  for (let round = 0; round < rounds; round += 1) {
    measured.password.push(await rate(ways.password))
    measured.passkey.push(await rate(ways.passkey))
  }
  return measured
}

interface Rate {
  readonly perSecond: number
  readonly cpuMs: number
}

const median = (values: readonly number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0

const { steps, seconds, scripts } = await measureFirstSignIn()
const measured = await measureRates()
const rows = Object.entries(measured).map(([way, rates]) => [
  way,
  median(rates.map(({ perSecond }) => perSecond)).toFixed(1),
  median(rates.map(({ cpuMs }) => cpuMs)).toFixed(1),
])
process.stdout.write(`A first sign-in: ${steps} steps, ${median(seconds).toFixed(1)} s of machines (median of ${seconds.length})

${asTable(
  ['page', 'bytes of scripts'],
  [...scripts].map(([page, bytes]) => [page, String(bytes)]),
)}

${asTable(['sign-in, with the client of the bench', 'a second', 'CPU, ms'], rows)}
`)
