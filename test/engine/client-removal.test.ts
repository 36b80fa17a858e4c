import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import type { KeyPair } from '../../src/doctor/proof.ts'
import { holdfast } from '../support/cli.ts'
import { basic, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { useFolder } from '../support/folder.ts'
import { raceFor } from '../support/lock.ts'
import { query } from '../support/query.ts'
import { type Node, startSecondNode } from '../support/second-node.ts'
import { useTestServer } from '../support/server.ts'

const environment = {
  HOLDFAST_SECRET: 'a secret of two nodes, which is long enough',
  HOLDFAST_DEVICE_FLOW: 'on',
}
const server = useTestServer(test, environment)
const cwd = useFolder(test)
const redirect_uri = 'https://app.example/callback'
const metadata = {
  client_id: 'shop',
  application_type: 'web',
  redirect_uris: [redirect_uri],
  grant_types: [
    'authorization_code',
    'refresh_token',
    'client_credentials',
    'urn:ietf:params:oauth:grant-type:device_code',
  ],
  token_endpoint_auth_method: 'client_secret_basic',
} satisfies Partial<ClientMetadata>
let other: Node
let key: KeyPair

test.before(async () => {
  other = await startSecondNode(server, environment)
  key = await newKey()
})

test.after.always('closes the other node', () => other?.[Symbol.asyncDispose]())

const artifactsOfClient = () =>
  query(
    server.databaseUrl,
    `select kind from artifacts where client_id = 'shop' or payload->>'clientId' = 'shop'`,
  )

/** A client with one of everything that a client can have. */
async function useClient() {
  const client = await server.addClient(metadata)
  const by = { key, headers: basic(client) }
  const person = createPerson(server)
  const { exchange } = await obtainCode(person, client, { redirect_uri })
  const { body: tokens } = await post(server, '/token', exchange, by)
  const service = await post(server, '/token', { grant_type: 'client_credentials' }, by)
  const device = await post(server, '/device_authorization', { scope: 'openid' }, by)
  const { exchange: unused } = await obtainCode(person, client, { redirect_uri })
  const pushed = await post(server, '/par', { ...pushedRequest, client_id: 'shop' }, by)
  return { client, person, tokens, unused, service: service.body, device, pushed }
}

const pushedRequest = {
  response_type: 'code',
  redirect_uri,
  scope: 'openid',
  code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
  code_challenge_method: 'S256',
}

async function isActive(client: ClientMetadata, token: string): Promise<boolean> {
  const { body } = await post(server, '/introspect', { token }, { headers: basic(client) })
  return body.active
}

test.afterEach.always(async () => {
  await server.storage.clients.remove('shop')
})

test.serial('a client that is added again inherits nothing', async (t) => {
  const { client, person, tokens, unused, service, device, pushed } = await useClient()
  t.true(await isActive(client, tokens.access_token))
  t.true(await isActive(client, service.access_token))
  t.is(pushed.status, 201)
  t.true(await server.storage.clients.remove('shop'))
  t.deepEqual(await artifactsOfClient(), [])
  t.deepEqual(
    await query(server.databaseUrl, `select from browser_sessions where authorizations ? 'shop'`),
    [],
  )
  const again = await server.addClient(metadata)
  const by = { key, headers: basic(again) }
  for (const used of [
    refreshing(again, tokens.refresh_token),
    unused,
    {
      grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
      device_code: device.body.device_code,
    },
  ]) {
    t.is((await post(server, '/token', used, by)).body.error, 'invalid_grant')
  }
  for (const { access_token } of [tokens, service]) t.false(await isActive(again, access_token))
  const repeatedRequest = { client_id: 'shop', request_uri: pushed.body.request_uri }
  const page = await person.browser.visit(
    `${server.issuer}/authorize?${new URLSearchParams(repeatedRequest)}`,
  )
  t.regex(page.html, /request_uri|expired|invalid/i)
  const url = `${server.issuer}/authorize?${new URLSearchParams({ ...pushedRequest, client_id: 'shop' })}`
  t.regex((await person.browser.visit(url, { until: redirect_uri })).html, />Allow</)
})

test.serial('ends all tokens of a client that the command removes', async (t) => {
  const { client, tokens, service } = await useClient()
  const asking = await server.addClient({ ...metadata, client_id: 'asking' })
  t.true(await isActive(asking, tokens.access_token))
  const env = { DATABASE_URL: server.databaseUrl, HOLDFAST_SECRET: environment.HOLDFAST_SECRET }
  const { code, stderr } = await holdfast({ cwd, env }, ['clients', 'remove', 'shop'])
  t.is(code, 0, stderr)
  for (const { access_token } of [tokens, service]) t.false(await isActive(asking, access_token))
  const refresh = refreshing(client, tokens.refresh_token)
  const { status } = await post(server, '/token', refresh, { key, headers: basic(client) })
  t.true(status === 400 || status === 401)
  t.deepEqual(await artifactsOfClient(), [])
})

test.serial('what is written for a client after its removal is dead', async (t) => {
  const { tokens, service } = await useClient()
  await query(server.databaseUrl, 'create table kept as select * from artifacts')
  await server.storage.clients.remove('shop')
  const again = await server.addClient(metadata)
  // A statement that began before the removal cannot see it.
  const written = await query(
    server.databaseUrl,
    `insert into artifacts select * from kept where client_id = 'shop' returning id`,
  )
  await query(server.databaseUrl, 'drop table kept')
  t.true(written.length > 5)
  for (const { access_token } of [tokens, service]) t.false(await isActive(again, access_token))
  const refresh = refreshing(again, tokens.refresh_token)
  const { body } = await post(server, '/token', refresh, { key, headers: basic(again) })
  t.is(body.error, 'invalid_grant')
})

test.serial('a refresh that races the removal leaves no token alive', async (t) => {
  const { client, tokens } = await useClient()
  const by = { key, headers: basic(client) }
  const refresh = () =>
    post(server, '/token', refreshing(client, tokens.refresh_token), {
      ...by,
      fetch: other.fetch,
    })
  const lock = { text: 'select from artifacts for update', andThen: 'commit' } as const
  const [answer] = await raceFor<unknown>(server.databaseUrl, lock, [
    refresh,
    () => server.storage.clients.remove('shop'),
  ])
  const again = await server.addClient(metadata)
  const { status, body } = answer as Awaited<ReturnType<typeof refresh>>
  if (status === 200) {
    t.false(await isActive(again, body.access_token))
    const next = refreshing(again, body.refresh_token)
    const { body: refused } = await post(server, '/token', next, { key, headers: basic(again) })
    t.is(refused.error, 'invalid_grant')
  } else t.is(body.error, 'invalid_grant')
})
