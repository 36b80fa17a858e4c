import { hash, randomBytes } from 'node:crypto'
import test from 'ava'
import { decodeJwt, exportJWK, SignJWT } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import pg from 'pg'
import { sessionBindingName } from '../../src/bindings/session-claims.ts'
import type { RequestedMetadata } from '../../src/clients/client-registration.ts'
import type { KeyPair } from '../../src/doctor/proof.ts'
import { createStatementCounter } from '../support/counting.ts'
import { allow, signInAt } from '../support/device.ts'
import { basic, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import {
  authorizationUrl,
  begin,
  type Interacting,
  interact,
  signIn as submitSignIn,
} from '../support/journey.ts'
import { query } from '../support/query.ts'
import { startSecondNode } from '../support/second-node.ts'
import { api, email, password, useTestServer } from '../support/server.ts'
import { createUserAgent, type Page } from '../support/user-agent.ts'

const counter = createStatementCounter()
const environment = {
  HOLDFAST_DEVICE_FLOW: 'on',
  HOLDFAST_SECRET: randomBytes(32).toString('base64url'),
}
const server = useTestServer(test, environment, { wrap: counter.wrap })
const callback = 'https://rp.example/callback'
const verifier = randomBytes(32).toString('base64url')

const addClient = (changes = {}) =>
  server.addClient({ application_type: 'web', redirect_uris: [callback], ...changes })
const request = ({ client_id }: ClientMetadata, parameters: Record<string, string> = {}) => ({
  client_id,
  redirect_uri: callback,
  scope: 'openid',
  code_challenge: hash('sha256', verifier, 'base64url'),
  ...parameters,
})
const beginAt = (client: ClientMetadata, parameters: Record<string, string> = {}) =>
  begin({ origin: server.issuer }, request(client, parameters))
const signIn = (login: Interacting, fields = {}) => submitSignIn(login, { password, ...fields })
const parameter = (location: string | undefined, name: string) =>
  new URL(location ?? 'about:blank').searchParams.get(name)
const rowsOf = (kind: string) =>
  query(server.databaseUrl, 'select from artifacts where kind = $1', [kind])

async function redeem({ client_id }: ClientMetadata, location: string | undefined) {
  const parameters = {
    grant_type: 'authorization_code',
    client_id,
    code: parameter(location, 'code') ?? '',
    code_verifier: verifier,
    redirect_uri: callback,
  }
  return post(server, '/token', parameters, { key: await newKey() })
}

/** Up to the answer that leads back to the app. */
async function consentAt(
  client: ClientMetadata,
  { agent }: Pick<Interacting, 'agent'>,
  page: Page,
) {
  const location = (await allow(await interact(agent, page))).href
  return (await redeem(client, location)).status
}

test.serial('writes no row before sign-in', async (t) => {
  const client = await addClient()
  counter.names.length = 0
  const login = await beginAt(client)
  await login.agent.get(`${server.issuer}/session/end`)
  await login.agent.get(`${server.issuer}/device`)
  const failed = await signIn(login, { password: 'wrong' })
  t.is(failed.status, 401)
  t.deepEqual(
    counter.names.filter((name) => name.startsWith('artifact')),
    [],
  )
  t.is((await rowsOf('Interaction')).length, 0)
  t.is((await rowsOf('Session')).length, 0)
  const offer = await login.agent.get((await signIn(login)).location ?? '')
  t.is(await consentAt(client, login, offer), 200)
})

test.serial('keeps the time of the sign-in when consent follows it', async (t) => {
  const client = await addClient()
  const login = await beginAt(client)
  const offer = await login.agent.get((await signIn(login)).location ?? '')
  await query(
    server.databaseUrl,
    `update artifacts set payload = jsonb_set(payload::jsonb, '{loginTs}', '1000000000')::json
      where kind = 'Session'`,
  )
  t.is(await consentAt(client, login, offer), 200)
  const [code] = await query(
    server.databaseUrl,
    `select payload->'authTime' as "signedInAt" from artifacts
      where kind = 'AuthorizationCode' and client_id = $1`,
    [client.client_id],
  )
  t.is(code?.signedInAt, 1_000_000_000)
})

test.serial('signs in from several tabs that were opened first', async (t) => {
  const clients = await Promise.all([addClient(), addClient(), addClient()])
  const agent = createUserAgent(server.issuer)
  const tabs = []
  for (const client of clients) {
    tabs.push(await begin({ origin: server.issuer }, request(client), agent))
  }
  for (const [at, tab] of tabs.entries()) {
    const client = clients[at] as ClientMetadata
    t.is(await consentAt(client, tab, await agent.get((await signIn(tab)).location ?? '')), 200)
  }
})

test.serial('sends the state of one interaction only with the requests of that one', async (t) => {
  const client = await addClient()
  const agent = createUserAgent(server.issuer)
  let last = ''
  for (let tab = 0; tab < 30; tab++) {
    last = (await agent.get(authorizationUrl(server.issuer, request(client)))).location ?? ''
  }
  t.true((await agent.jar.getCookieString(last)).length < 4096)
  t.true((await agent.jar.getCookieString(server.issuer)).length < 200)
})

const stateCookie = '_interaction_state'

for (const [title, tamper] of [
  ['a changed', (value: string) => `${value.slice(0, -2)}${value.endsWith('AA') ? 'BB' : 'AA'}`],
  ['an empty', () => ''],
  ['a cut', (value: string) => value.slice(0, 40)],
] as const) {
  test.serial(`rejects ${title} state cookie`, async (t) => {
    const { agent, url, token } = await beginAt(await addClient())
    const cookie = (await agent.jar.getCookies(url)).find(({ key }) => key === stateCookie)
    await agent.jar.setCookie(
      `${stateCookie}=${tamper(cookie?.value ?? '')}; path=${cookie?.path}`,
      url,
    )
    t.is((await agent.get(url)).status, 400)
    t.is(
      (await agent.post(`${url}/login`, { token, email: 'ada@example.com', password })).status,
      400,
    )
  })
}

test.serial('rejects the state cookie of another interaction', async (t) => {
  const client = await addClient()
  const [one, other] = [await beginAt(client), await beginAt(client)]
  const cookie = (await one.agent.jar.getCookies(one.url)).find(({ key }) => key === stateCookie)
  const path = new URL(other.url).pathname
  await other.agent.jar.setCookie(`${stateCookie}=${cookie?.value}; path=${path}`, other.url)
  t.is((await other.agent.get(other.url)).status, 400)
})

test.serial('serves a sign-in that began at another node', async (t) => {
  await using node = await startSecondNode(server, environment)
  const client = await addClient()
  const { agent, url, token } = await beginAt(client)
  const answer = await node.fetch(`${url}/login`, {
    method: 'POST',
    redirect: 'manual',
    headers: { cookie: await agent.jar.getCookieString(url) },
    body: new URLSearchParams({ token, email: 'ada@example.com', password }),
  })
  t.is(answer.status, 303)
  for (const cookie of answer.headers.getSetCookie()) await agent.jar.setCookie(cookie, url)
  const offer = await agent.get(answer.headers.get('location') ?? '')
  t.is(await consentAt(client, { agent }, offer), 200)
})

test.serial('signs nobody in by what a resumed interaction has left behind', async (t) => {
  const login = await beginAt(await addClient())
  const posted = await signIn(login)
  const thief = login.agent.copy()
  await login.agent.get(posted.location ?? '')
  const replayed = await thief.get(posted.location ?? '')
  t.regex(replayed.location ?? '', /\/interaction\//)
  t.regex((await thief.get(replayed.location ?? '')).text, />Sign in</)
})

test.serial('returns access_denied to the app when nobody signs in', async (t) => {
  const { agent, url, token } = await beginAt(await addClient())
  const { location } = await agent.follow(await agent.post(`${url}/abort`, { token }))
  t.is(parameter(location, 'error'), 'access_denied')
  t.is(parameter(location, 'state'), 'the state')
  t.is((await agent.get(url)).status, 400)
})

test.serial('neither of two tabs loses a consent that is given at the same moment', async (t) => {
  const clients = await Promise.all([addClient(), addClient()])
  const [first, second] = clients as [ClientMetadata, ClientMetadata]
  for (let round = 0; round < 6; round++) {
    const parameters = { prompt: 'login consent' }
    const { device, consent } = await signInAt(server, request(first, parameters), {
      as: { password },
    })
    const { agent } = device
    const other = await begin(
      { origin: server.issuer },
      request(second, { prompt: 'consent' }),
      agent,
    )
    const landed = await Promise.all([allow(consent), allow(other)])
    const answers = [await redeem(first, landed[0].href), await redeem(second, landed[1].href)]
    t.deepEqual(
      answers.map(({ status }) => status),
      [200, 200],
    )
  }
})

test.serial('keeps the consent of a tab whose neighbour has finished meanwhile', async (t) => {
  const [first, second] = [await addClient(), await addClient()]
  const { device, consent } = await signInAt(server, request(first), { as: { password } })
  const other = await begin({ origin: server.issuer }, request(second), device.agent)
  // Sent before the answers of the other tab have arrived.
  const earlier = { ...other, agent: device.agent.copy() }
  t.is((await redeem(first, (await allow(consent)).href)).status, 200)
  t.is((await redeem(second, (await allow(earlier)).href)).status, 200)
})

test.serial('signs in once by several uses at the same moment', async (t) => {
  const countSessions = async () =>
    (await query(server.databaseUrl, 'select from browser_sessions')).length
  const before = await countSessions()
  const login = await beginAt(await addClient())
  const posted = await signIn(login)
  const tabs = Array.from({ length: 6 }, () => login.agent.copy())
  const pages = await Promise.all(tabs.map((tab) => tab.follow(posted)))
  t.is(pages.filter(({ text }) => />Allow</.test(text)).length, 1)
  t.is(pages.filter(({ text }) => />Sign in</.test(text)).length, 5)
  t.is(await countSessions(), before + 1)
})

test.serial('answers a consent again whose answer was lost', async (t) => {
  const client = await addClient()
  const { consent } = await signInAt(server, request(client), { as: { password } })
  const confirm = `${consent.url}/confirm`
  await consent.agent.copy().post(confirm, { token: consent.token })
  const posted = await consent.agent.post(confirm, { token: consent.token })
  const grants = await rowsOf('Grant')
  // The answer to the resume never arrives, and the browser asks again.
  await consent.agent.copy().get(posted.location ?? '')
  const { location } = await consent.agent.get(posted.location ?? '')
  t.is((await redeem(client, location)).status, 200)
  t.is((await rowsOf('Grant')).length, grants.length + 1)
})

test.serial('writes a consent with the code that it leads to, and only once', async (t) => {
  const client = await addClient()
  const grants = () =>
    query(server.databaseUrl, `select from artifacts where kind = 'Grant' and client_id = $1`, [
      client.client_id,
    ])
  const { consent } = await signInAt(server, request(client), { as: { password } })
  const posted = await consent.agent.post(`${consent.url}/confirm`, { token: consent.token })
  t.is((await grants()).length, 0)
  const copy = consent.agent.copy()
  t.truthy(parameter((await consent.agent.get(posted.location ?? '')).location, 'code'))
  t.is((await grants()).length, 1)
  // Withdrawn: the interaction must not bring it back.
  await query(server.databaseUrl, 'delete from artifacts where kind = $1', ['Grant'])
  t.regex((await copy.get(posted.location ?? '')).location ?? '', /\/interaction\//)
  t.is((await grants()).length, 0)
})

test.serial('answers the consent to a pushed request again whose answer was lost', async (t) => {
  const client = await addClient()
  const pushed = await post(server, '/par', {
    ...request(client),
    response_type: 'code',
    code_challenge_method: 'S256',
  })
  t.is(pushed.status, 201)
  const { request_uri } = pushed.body
  const { consent } = await signInAt(
    server,
    { client_id: client.client_id, request_uri },
    {
      as: { password },
    },
  )
  const posted = await consent.agent.post(`${consent.url}/confirm`, { token: consent.token })
  await consent.agent.copy().get(posted.location ?? '')
  const { location } = await consent.agent.get(posted.location ?? '')
  t.is((await redeem(client, location)).status, 200)
})

test.serial('asks to sign in again where the answer to the resume was lost', async (t) => {
  const client = await addClient()
  const login = await beginAt(client)
  const posted = await signIn(login)
  await login.agent.copy().get(posted.location ?? '')
  const again = await interact(login.agent, await login.agent.get(posted.location ?? ''))
  t.regex(again.page.text, />Sign in</)
  const offer = await again.agent.get((await signIn(again)).location ?? '')
  t.is(await consentAt(client, again, offer), 200)
})
// Clients and APIs are remembered for some seconds, in which a busy machine may not come this far.
const stopped = () => 0
const countedServer = useTestServer(test, {}, { wrap: counter.wrap, now: stopped })
const redirect_uri = 'https://app.example/callback'

let key: KeyPair
let withSecret: ClientMetadata
let withKey: ClientMetadata

test.before(async () => {
  key = await newKey()
  const web: RequestedMetadata = {
    application_type: 'web',
    redirect_uris: [redirect_uri],
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
  }
  withSecret = await countedServer.addClient({
    ...web,
    token_endpoint_auth_method: 'client_secret_basic',
  })
  withKey = await countedServer.addClient({
    ...web,
    token_endpoint_auth_method: 'private_key_jwt',
    jwks: { keys: [await exportJWK(key.publicKey)] },
  })
})

/** A token request by one of the two clients, and the statements it took. */
async function grant(client: ClientMetadata, parameters: Record<string, string>) {
  const { client_id: clientId } = client
  const assertion = () =>
    new SignJWT({ jti: crypto.randomUUID() })
      .setProtectedHeader({ alg: 'ES256' })
      .setIssuer(clientId)
      .setSubject(clientId)
      .setAudience(countedServer.issuer)
      .setExpirationTime('60s')
      .sign(key.privateKey)
  const authenticated =
    client === withKey
      ? {
          client_assertion: await assertion(),
          client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
        }
      : {}
  const headers = client === withSecret ? basic(client) : {}
  counter.names.length = 0
  const answer = await post(
    countedServer,
    '/token',
    { ...parameters, ...authenticated },
    { key, headers },
  )
  return { ...answer, statements: [...counter.names] }
}

async function redeemCode(client: ClientMetadata, scope: string) {
  const asked = { redirect_uri, scope, resource: api, prompt: 'consent' }
  const { exchange } = await obtainCode(createPerson(countedServer), client, asked)
  return grant(client, exchange)
}

const service = { grant_type: 'client_credentials', resource: api, scope: 'read' }
const replayStatement = 'replay-record'

test.serial('client credentials by secret are one statement', async (t) => {
  await grant(withSecret, service)
  const { status, statements } = await grant(withSecret, service)
  t.is(status, 200)
  t.deepEqual(statements, [replayStatement])
})

test.serial('client credentials by assertion are one statement as well', async (t) => {
  await grant(withKey, service)
  const { status, statements } = await grant(withKey, service)
  t.is(status, 200)
  t.deepEqual(statements, [replayStatement])
})

test.serial('opaque tokens of client credentials are stored with their mark', async (t) => {
  await grant(withSecret, { grant_type: 'client_credentials' })
  const { status, statements } = await grant(withSecret, { grant_type: 'client_credentials' })
  t.is(status, 200)
  t.deepEqual(statements, ['artifact-commit'])
})

// Whether the tokens end with the session or outlive it, and name it both times.
const statements = ['credential-find', 'artifact-commit']
for (const scope of ['openid offline_access read', 'openid read']) {
  for (const method of ['secret', 'assertion'] as const) {
    test.serial(`codes and refreshes of ${scope} by ${method} take few statements`, async (t) => {
      const client = method === 'secret' ? withSecret : withKey
      const first = await redeemCode(client, scope)
      t.is(first.status, 200)
      t.deepEqual(first.statements, statements)
      const next = await grant(client, refreshing(client, first.body.refresh_token))
      t.is(next.status, 200)
      t.deepEqual(next.statements, statements)
    })
  }
}

test.serial('a sign-in takes few statements, and one with consent a few more', async (t) => {
  const person = createPerson(countedServer)
  const asked = { redirect_uri, scope: 'openid' }
  const attempt = ['sign-in-attempt-count', 'sign-in-attempt-succeed']
  const [find, commit] = ['browser-request-find', 'browser-request-commit']
  // To the code: its tokens take two more.
  const takes = async (parameters: Record<string, string>, expected: string[]) => {
    await obtainCode(person, withSecret, { ...asked, ...parameters })
    t.deepEqual(counter.names.splice(0), expected)
  }
  counter.names.length = 0
  const consent = [find, find, find, commit]
  await takes({}, [...attempt, find, commit, ...consent])
  await takes({ prompt: 'login' }, [find, find, ...attempt, find, commit])
  await takes({}, [find, commit])
})

/** A refresh token, and the uid of the session that it comes from. */
async function issued(scope: string) {
  const { body } = await redeemCode(withSecret, scope)
  const token = await countedServer.provider.RefreshToken.find(body.refresh_token)
  return { refreshToken: String(body.refresh_token), sessionUid: token?.sessionUid ?? '' }
}

const refreshForApi = (refreshToken: string) =>
  grant(withSecret, { ...refreshing(withSecret, refreshToken), resource: api })

test.serial('tokens of a session with a key say so without another statement', async (t) => {
  const { refreshToken, sessionUid } = await issued('openid read')
  await countedServer.storage.browserSessions.bind(sessionUid, {
    jkt: 'a thumbprint',
    alg: 'ES256',
    jwk: {},
    challenge: '',
    authorization: undefined,
  })
  const { body, statements: taken } = await refreshForApi(refreshToken)
  t.deepEqual(taken, statements)
  t.is(decodeJwt(body.access_token)[sessionBindingName], 'dbsc')
  t.like(decodeJwt(body.id_token), { [sessionBindingName]: 'dbsc', cnf: { jkt: 'a thumbprint' } })
})

test.serial('a session that ended a moment ago refreshes nothing but offline access', async (t) => {
  const [online, offline] = [
    await issued('openid read'),
    await issued('openid offline_access read'),
  ]
  for (const { sessionUid } of [online, offline]) {
    await countedServer.storage.browserSessions.end(sessionUid)
  }
  const refused = await grant(withSecret, refreshing(withSecret, online.refreshToken))
  t.is(refused.body.error, 'invalid_grant')
  const { status, body } = await refreshForApi(offline.refreshToken)
  t.is(status, 200)
  t.is(decodeJwt(body.access_token)[sessionBindingName], 'ended')
})

test.serial('a request with U+0000 in what is stored of it is served', async (t) => {
  const person = createPerson(countedServer)
  const asked = { redirect_uri, scope: 'openid read', resource: api, nonce: 'a\0b' }
  const { exchange } = await obtainCode(person, withSecret, asked)
  const { status, body } = await grant(withSecret, exchange)
  t.is(status, 200)
  const { status: again } = await grant(withSecret, refreshing(withSecret, body.refresh_token))
  t.is(again, 200)
})

test.serial('an account that was disabled a moment ago refreshes nothing', async (t) => {
  const { body } = await redeemCode(withSecret, 'openid offline_access read')
  const account = (await countedServer.storage.accounts.findByEmail(email))?.account
  await countedServer.storage.accounts.setDisabled(account?.id ?? '', true)
  const refused = await grant(withSecret, refreshing(withSecret, body.refresh_token))
  await countedServer.storage.accounts.setDisabled(account?.id ?? '', false)
  t.is(refused.body.error, 'invalid_grant')
  const { status } = await grant(withSecret, refreshing(withSecret, body.refresh_token))
  t.is(status, 200)
})

test.serial('a grant that was removed a moment ago refreshes nothing', async (t) => {
  const { body } = await redeemCode(withSecret, 'openid offline_access read')
  const token = await countedServer.provider.RefreshToken.find(body.refresh_token)
  await countedServer.provider.Grant.adapter.destroy(token?.grantId ?? '')
  const refused = await grant(withSecret, refreshing(withSecret, body.refresh_token))
  t.is(refused.body.error, 'invalid_grant')
})

test.serial('a refresh token ends with its session', async (t) => {
  const { body } = await redeemCode(withSecret, 'openid read')
  const token = await countedServer.provider.RefreshToken.find(body.refresh_token)
  const database = new pg.Client({ connectionString: countedServer.databaseUrl })
  await database.connect()
  const { rowCount } = await database.query(
    "delete from artifacts where kind = 'Session' and uid = $1",
    [token?.sessionUid],
  )
  await database.end()
  t.is(rowCount, 1)
  const refused = await grant(withSecret, refreshing(withSecret, body.refresh_token))
  t.is(refused.body.error, 'invalid_grant')
})
