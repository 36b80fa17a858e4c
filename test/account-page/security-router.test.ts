import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { cibaGrant } from '../../src/clients/grant-types.ts'
import { publicRoutes } from '../../src/http/routes.ts'
import { allow, createDevice, letMomentPass, signInAt } from '../support/device.ts'
import { authorizationUrl, begin, interact, signIn } from '../support/journey.ts'
import { makeSigningKey } from '../support/jws.ts'
import { query } from '../support/query.ts'
import { email, password, useTestServer } from '../support/server.ts'
import { trust } from '../support/trust.ts'
import { until } from '../support/until.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

const server = useTestServer(test, {
  HOLDFAST_TLS: 'on',
  HOLDFAST_ACCOUNT_SELF_SERVICE: 'name, email, locale, export, delete',
})
const callback = 'https://rp.example/callback'
let client: ClientMetadata

test.before(async () => {
  await trust(server)
  client = await server.addClient({
    application_type: 'web',
    redirect_uris: [callback],
    client_name: 'Harbour <Orders>',
  })
})

const request = () => ({ client_id: client.client_id, redirect_uri: callback, scope: 'openid' })

async function signedIn({ bound = true } = {}) {
  const person = await signInAt(server, request())
  if (bound) await person.device.register(person.offer)
  await allow(person.consent)
  if (bound) await letMomentPass(server.databaseUrl, person.device.session)
  return person.device
}

const open = (agent: UserAgent, page = 'sessions') => agent.get(`${server.issuer}/security/${page}`)
const tokenOf = (text: string) => /name="token" value="([^"]+)"/.exec(text)?.[1] ?? ''
const isIn = async (agent: UserAgent) =>
  (await agent.get(authorizationUrl(server.issuer, request()))).location?.includes('code=')

async function press(agent: UserAgent, action: string, fields: Record<string, string> = {}) {
  const token = tokenOf((await open(agent)).text)
  return agent.post(`${server.issuer}/security/${action}`, { token, ...fields })
}

test.serial('shows sign-ins, apps and events of the person alone', async (t) => {
  const [device] = [await signedIn(), await signedIn({ bound: false })]
  const { status, text } = await open(device.agent)
  t.is(status, 200)
  t.regex(text, /this browser/)
  t.regex(text, /Locked to a key of its browser <code>ES256 [\w-]{8}…/)
  t.regex(text, /Not locked to a key/)
  t.regex(text, /from the network 127\.0\.0\.0\/24</)
  t.regex(text, /<time datetime="\d{4}-\d\d-\d\dT[\d:.]+Z">[^<]+ UTC<\/time>/)
  const applications = (await open(device.agent, 'applications')).text
  t.regex(applications, /Harbour &lt;Orders&gt;/)
  t.regex(applications, /Locked to a key</)
  t.regex(applications, /<li>Know who you are/)
  const activity = (await open(device.agent, 'activity')).text
  t.regex(activity, /A sign-in was locked to a key of its browser/)
})

test.serial('shows failed sign-ins of the account, as one line an hour', async (t) => {
  const wrong = { email: ` ${email.toUpperCase()}`, password: 'a wrong password' }
  for (let count = 0; count < 2; count += 1) {
    const page = await begin({ origin: server.issuer }, request())
    t.is((await signIn(page, wrong)).status, 401)
  }
  const owner = await server.storage.accounts.findByEmail(email)
  const found = () => server.storage.failedSignIns.listOf(owner?.account.id ?? '', 5)
  await until(async () => (await found()).reduce((sum, { count }) => sum + count, 0) === 2)
  const { agent } = await signedIn()
  const { text } = await open(agent, 'activity')
  t.regex(text, /Failed sign-ins/)
  t.regex(text, /Someone entered your email with a wrong password/)
})

test.serial('links requests for approval once an application may send them', async (t) => {
  const { agent } = await signedIn()
  const link = /href="\/security\/approvals"/
  t.notRegex((await open(agent)).text, link)
  await server.addClient({
    application_type: 'web',
    redirect_uris: [],
    response_types: [],
    grant_types: [cibaGrant],
    token_endpoint_auth_method: 'private_key_jwt',
    jwks: { keys: [makeSigningKey().jwk] },
  })
  t.regex((await open(agent)).text, link)
})

test.serial('ends one other sign-in', async (t) => {
  const [mine, other] = [await signedIn(), await signedIn()]
  await press(mine.agent, 'sessions/end', { session: other.session })
  t.true(await isIn(mine.agent))
  t.falsy(await isIn(other.agent))
  t.like(JSON.parse((await other.refresh()).text), { continue: false })
})

test.serial('ends all other sign-ins', async (t) => {
  const [mine, other] = [await signedIn(), await signedIn({ bound: false })]
  await press(mine.agent, 'sessions/end-others')
  t.true(await isIn(mine.agent))
  t.falsy(await isIn(other.agent))
})

test.serial('ends the access of an app', async (t) => {
  const mine = await signedIn()
  await press(mine.agent, 'applications/end', { client_id: client.client_id })
  t.regex((await open(mine.agent, 'applications')).text, /No app has access/)
  t.falsy(await isIn(mine.agent))
})

test.serial("does not end another user's sign-in", async (t) => {
  const mine = await signedIn()
  const theirs = await signedIn()
  await query(server.databaseUrl, "update browser_sessions set account_id = 'eve' where uid = $1", [
    theirs.session,
  ])
  await press(mine.agent, 'sessions/end', { session: theirs.session })
  t.truthy(await server.storage.browserSessions.find(theirs.session))
})

const pages = ['profile', 'sign-in', 'sessions', 'applications', 'activity']

test.serial('is for nobody without a session, nor without the proof of its key', async (t) => {
  const device = await signedIn()
  const thief = device.agent.copy((name) => !name.startsWith('__Host-'))
  const agents = [createUserAgent(server.issuer), thief]
  for (const [agent, page] of agents.flatMap((agent) =>
    pages.map((page) => [agent, page] as const),
  )) {
    const { status, location, text } = await open(agent, page)
    t.is(status, 303)
    t.true(location?.startsWith(`${server.issuer}/authorize?`))
    t.false(text.includes(email))
  }
  const token = tokenOf((await open(device.agent)).text)
  const url = `${server.issuer}/security/sessions/end-others`
  const refused = await thief.post(url, { token })
  t.is(refused.status, 401)
  t.regex(refused.text, /sign_in_first/)
  t.regex(refused.text, /<a href="\/security">Sign in/)
})

test.serial('does nothing for a copy of all cookies without the key, by no route', async (t) => {
  const device = await signedIn()
  const other = await signedIn()
  const token = tokenOf((await open(device.agent)).text)
  const thief = device.agent.copy((name) => !name.includes('holdfast_bound'))
  const typed = { token, password, session: other.session, client_id: String(client.client_id) }
  const routes = Object.values(publicRoutes).filter(({ path }) => path.startsWith('/security'))
  t.true(routes.length >= 29)
  for (const { path, methods } of routes) {
    const url = server.issuer + path.replace(':id', 'x')
    for (const method of methods) {
      const {
        status,
        location = '',
        text,
      } = method === 'GET' ? await thief.get(url) : await thief.post(url, typed)
      const isLed = status === 303 && location.startsWith(`${server.issuer}/`)
      t.true(status === 401 || isLed, `${method} ${path} ${status}`)
      t.false(text.includes(email), path)
    }
  }
  t.true(await isIn(device.agent))
  t.true(await isIn(other.agent))
})

/** From the page to the sign-in, without any app. */
async function led() {
  const agent = createUserAgent(server.issuer)
  const { location = '' } = await open(agent)
  return interact(agent, await agent.get(location))
}

test.serial('leads users without a session through a sign-in and back', async (t) => {
  const login = await led()
  t.regex(login.page.text, /to continue to <strong><bdi>My security</)
  const { location = '' } = await signIn(login, { password })
  const resumed = await login.agent.get(location)
  t.regex(resumed.location ?? '', /\/security\/sessions\?code=/, 'nobody is asked for consent')
  const device = createDevice(server, login.agent)
  t.is((await device.register(resumed)).status, 200)
  const cleaned = await login.agent.get(resumed.location ?? '')
  t.is(cleaned.location, `${server.issuer}/security/sessions`)
  const { status, text } = await open(login.agent)
  t.is(status, 200)
  t.regex(text, /this browser/)
  t.false((await open(login.agent, 'applications')).text.includes('<bdi>My security'))
  t.false(server.logged.some((line) => line.includes('session_bound_late')))
})

test.serial(
  'leads from the old address to a page, and each page to a sign-in and back',
  async (t) => {
    const login = await led()
    await login.agent.follow(await signIn(login, { password }))
    const old = await login.agent.get(`${server.issuer}/security?iss=x`)
    t.is(old.location, `${server.issuer}/security/sign-in?iss=x`)
    for (const page of pages) {
      const { location = '' } = await createUserAgent(server.issuer).get(
        `${server.issuer}/security/${page}`,
      )
      const { searchParams } = new URL((await login.agent.get(location)).location ?? '')
      t.truthy(searchParams.get('code'), page)
      const shown = await open(login.agent, page)
      t.is(shown.status, 200)
      t.regex(shown.text, new RegExp(`href="/security/${page}" aria-current="page"`))
      t.regex(shown.text, new RegExp(email))
    }
    t.regex((await open(login.agent, 'profile')).text, /<dt>Name<\/dt>\s*<dd><bdi>Ada</)
  },
)

test.serial('does not ask a user who cancels a sign-in again and again', async (t) => {
  const { agent, url, token } = await led()
  const { location = '' } = await agent.post(`${url}/abort`, { token })
  const back = (await agent.get(location)).location ?? ''
  t.regex(back, /\/security\/sessions\?error=access_denied/)
  t.is((await agent.get(back)).status, 401)
})

test.serial('the code that comes back is good for no token', async (t) => {
  const login = await led()
  const { location = '' } = await signIn(login, { password })
  const code = new URL((await login.agent.get(location)).location ?? '').searchParams.get('code')
  t.is((await server.provider.AuthorizationCode.find(code ?? ''))?.grantId, undefined)
})

test.serial('rejects forms of other sites and of other sessions', async (t) => {
  const [mine, other] = [await signedIn(), await signedIn()]
  const url = `${server.issuer}/security/sessions/end-others`
  const token = tokenOf((await open(mine.agent)).text)
  const fromElsewhere = await mine.agent.post(url, { token }, { 'sec-fetch-site': 'cross-site' })
  t.is(fromElsewhere.status, 403)
  t.is((await mine.agent.post(url, { token: '' })).status, 400)
  const foreign = tokenOf((await open(other.agent)).text)
  t.is((await mine.agent.post(url, { token: foreign })).status, 400)
  t.true(await isIn(other.agent))
})
