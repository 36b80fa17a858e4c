import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import {
  basic,
  createPerson,
  newKey,
  obtainCode,
  type PostOptions,
  post,
  refreshing,
} from '../support/flow.ts'
import { race } from '../support/lock.ts'
import { query } from '../support/query.ts'
import { type Node, startSecondNode } from '../support/second-node.ts'
import { useTestServer } from '../support/server.ts'

const environment = { HOLDFAST_SECRET: 'a secret of two nodes, which is long enough' }
const server = useTestServer(test, environment)
let other: Node
let client: ClientMetadata
let key: KeyPair

test.before(async () => {
  other = await startSecondNode(server, environment)
  client = await server.addClient()
  key = await newKey()
})

test.after.always('closes the other node', () => other?.[Symbol.asyncDispose]())

/** One request to each node: what comes to one node together goes in one statement. */
const atBothNodes = <T>(request: (by: Pick<Node, 'fetch'>) => Promise<T>) => [
  () => request({ fetch: globalThis.fetch }),
  () => request(other),
]

const sixteen = <T>(use: () => Promise<T>) => Promise.all(Array.from({ length: 16 }, use))

function outcomes(answers: { status: number; body: { error?: string } }[]) {
  const losers = answers.filter(({ status }) => status !== 200)
  return {
    won: answers.length - losers.length,
    lost: [...new Set(losers.map(({ status, body }) => `${status} ${body.error}`))],
  }
}

test('sixteen concurrent uses of one code: one success', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const answers = await sixteen(() => post(server, '/token', exchange, { key }))
  t.deepEqual(outcomes(answers), { won: 1, lost: ['400 invalid_grant'] })
})

test.serial('a code that was raced for ends everything that was issued from it', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const answers = await race(
    server.databaseUrl,
    'AuthorizationCode',
    atBothNodes(({ fetch }) => post(server, '/token', exchange, { key, fetch })),
  )
  t.deepEqual(outcomes(answers), { won: 1, lost: ['400 invalid_grant'] })
  const { refresh_token } = answers.find(({ status }) => status === 200)?.body ?? {}
  const refresh = await post(server, '/token', refreshing(client, refresh_token), { key })
  t.is(refresh.body.error, 'invalid_grant')
})

test('sixteen concurrent uses of one refresh token: one success', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body } = await post(server, '/token', exchange, { key })
  const answers = await sixteen(() =>
    post(server, '/token', refreshing(client, body.refresh_token), { key }),
  )
  t.deepEqual(outcomes(answers), { won: 1, lost: ['400 invalid_grant'] })
})

test.serial('whoever wins a race of refreshes by one key keeps its tokens', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body } = await post(server, '/token', exchange, { key })
  const answers = await race(
    server.databaseUrl,
    'RefreshToken',
    atBothNodes(({ fetch }) =>
      post(server, '/token', refreshing(client, body.refresh_token), { key, fetch }),
    ),
  )
  t.deepEqual(outcomes(answers), { won: 1, lost: ['400 invalid_grant'] })
  const winner = answers.find(({ status }) => status === 200)
  const next = await post(server, '/token', refreshing(client, winner?.body.refresh_token), { key })
  t.is(next.status, 200)
})

test.serial('a refresh token that comes back later ends its family', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body: first } = await post(server, '/token', exchange, { key })
  const refresh = (token: string) => post(server, '/token', refreshing(client, token), { key })
  const { body: second } = await refresh(first.refresh_token)
  t.is((await refresh(first.refresh_token)).body.error, 'invalid_grant')
  t.is((await refresh(second.refresh_token)).body.error, 'invalid_grant')
})

/** Two authorizations of one client in one browser session. */
async function twoChains(of = client, options: PostOptions = { key }) {
  const person = createPerson(server)
  const redeem = async () => {
    const { exchange } = await obtainCode(person, of)
    return { exchange, ...(await post(server, '/token', exchange, options)).body }
  }
  return [await redeem(), await redeem()] as const
}

async function isActive(token: string): Promise<boolean> {
  const asked = { client_id: client.client_id, token }
  return (await post(server, '/introspect', asked)).body.active
}

test.serial('a reused refresh token ends its own chain only', async (t) => {
  const [one, two] = await twoChains()
  const refresh = (token: string) => post(server, '/token', refreshing(client, token), { key })
  const { body: next } = await refresh(one.refresh_token)
  t.true(await isActive(next.access_token))
  t.is((await refresh(one.refresh_token)).body.error, 'invalid_grant')
  t.is((await refresh(next.refresh_token)).body.error, 'invalid_grant')
  t.false(await isActive(one.access_token))
  t.false(await isActive(next.access_token))
  t.true(await isActive(two.access_token))
  t.is((await refresh(two.refresh_token)).status, 200)
})

test.serial('a reused code ends its own chain only', async (t) => {
  const [one, two] = await twoChains()
  t.is((await post(server, '/token', one.exchange, { key })).body.error, 'invalid_grant')
  const refresh = (token: string) => post(server, '/token', refreshing(client, token), { key })
  t.is((await refresh(one.refresh_token)).body.error, 'invalid_grant')
  t.false(await isActive(one.access_token))
  t.is((await refresh(two.refresh_token)).status, 200)
})

test.serial('a bearer refresh token that was raced for ends its own chain only', async (t) => {
  const bearer = await server.addClient({ binding_method: 'bearer' })
  const [one, two] = await twoChains(bearer, {})
  const refresh = (token: string, by = {}) => post(server, '/token', refreshing(bearer, token), by)
  const answers = await race(
    server.databaseUrl,
    'RefreshToken',
    atBothNodes((by) => refresh(one.refresh_token, by)),
  )
  t.deepEqual(outcomes(answers), { won: 1, lost: ['400 invalid_grant'] })
  const winner = answers.find(({ status }) => status === 200)
  t.is((await refresh(winner?.body.refresh_token)).body.error, 'invalid_grant')
  t.is((await refresh(two.refresh_token)).status, 200)
})

test.serial('what is written of a chain after it has ended is dead', async (t) => {
  const [one] = await twoChains()
  const refresh = (token: string) => post(server, '/token', refreshing(client, token), { key })
  const { body: next } = await refresh(one.refresh_token)
  await query(server.databaseUrl, 'create table kept as select * from artifacts')
  await refresh(one.refresh_token)
  // A statement that began before the chain ended cannot see that it did.
  const { length } = await query(
    server.databaseUrl,
    `insert into artifacts select * from kept where kind in ('AccessToken', 'RefreshToken')
     on conflict do nothing returning id`,
  )
  await query(server.databaseUrl, 'drop table kept')
  t.true(length > 0)
  t.is((await refresh(next.refresh_token)).body.error, 'invalid_grant')
  t.false(await isActive(next.access_token))
})

test('sixteen concurrent uses of one DPoP proof: one success', async (t) => {
  const service = await server.addClient({
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    token_endpoint_auth_method: 'client_secret_basic',
    application_type: 'web',
  })
  const headers = basic(service)
  const proof = await makeProof(key, { method: 'POST', url: `${server.issuer}/token` })
  const answers = await sixteen(() =>
    post(server, '/token', { grant_type: 'client_credentials' }, { proof, headers }),
  )
  t.deepEqual(outcomes(answers), { won: 1, lost: ['400 invalid_grant'] })
})

test('a refresh that is repeated with its proof is refused, and ends nothing', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body: first } = await post(server, '/token', exchange, { key })
  const proof = await makeProof(key, { method: 'POST', url: `${server.issuer}/token` })
  const refresh = () => post(server, '/token', refreshing(client, first.refresh_token), { proof })
  const { body: second } = await refresh()
  t.is((await refresh()).body.error, 'invalid_grant')
  const next = await post(server, '/token', refreshing(client, second.refresh_token), { key })
  t.is(next.status, 200)
})

test('the proof of a request that fails is used up', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body } = await post(server, '/token', exchange, { key })
  const proof = await makeProof(key, { method: 'POST', url: `${server.issuer}/token` })
  const refresh = (more: Record<string, string>, by: object) =>
    post(server, '/token', { ...refreshing(client, body.refresh_token), ...more }, by)
  const failed = await refresh({ resource: 'https://unknown.example' }, { proof })
  t.is(failed.body.error, 'invalid_target')
  t.is((await refresh({}, { proof })).body.error, 'invalid_grant')
  t.is((await refresh({}, { key })).status, 200)
})

test('sixteen concurrent uses of one pushed request: one code', async (t) => {
  // A web client: a native one is asked for consent each time.
  const redirect_uri = 'https://app.example/callback'
  const web = await server.addClient({ application_type: 'web', redirect_uris: [redirect_uri] })
  const person = createPerson(server)
  const { code } = await obtainCode(person, web, { redirect_uri })
  t.truthy(code)

  const { body } = await post(
    server,
    '/par',
    {
      client_id: web.client_id,
      response_type: 'code',
      redirect_uri,
      scope: 'openid',
      code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
      code_challenge_method: 'S256',
    },
    { key },
  )
  const query = new URLSearchParams({ client_id: web.client_id, request_uri: body.request_uri })
  const url = `${server.issuer}/authorize?${query}`
  const pages = await sixteen(() => person.browser.visit(url, { until: redirect_uri }))
  const codes = pages.filter((page) => page.url.searchParams.has('code'))
  const refused = pages.filter((page) => `${page.url} ${page.html}`.includes('invalid_request_uri'))
  t.is(codes.length, 1)
  t.is(refused.length, 15)
})

test.after('nothing of this was an error of the server', (t) => {
  t.deepEqual(
    server.logged.filter((line) => line.includes('server_error')),
    [],
  )
})
