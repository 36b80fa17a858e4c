import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import type { MetadataValidator } from '../../src/clients/client-registration.ts'
import { openClient } from '../../src/clients/open-clients.ts'
import type { KeyPair } from '../../src/doctor/proof.ts'
import { shownDigest } from '../../src/engine/shown-client.ts'
import { agentDocument, documentHosts } from '../support/agents.ts'
import { createPerson, newKey, obtainCode, type Person, post, refreshing } from '../support/flow.ts'
import { query } from '../support/query.ts'
import { register, thumbprint } from '../support/registration.ts'
import { email, password, useTestServer } from '../support/server.ts'

const hosts = documentHosts()
hosts.headers = { 'cache-control': 'no-store' }
const server = useTestServer(
  test,
  {
    HOLDFAST_CLIENT_ID_METADATA: 'on',
    HOLDFAST_REGISTRATION: 'open',
    HOLDFAST_OPEN_REGISTRATION_LIMIT: '5',
  },
  { guardedFetch: hosts.guardedFetch },
)
/** What strangers ask for here counts against nobody else. */
const crowd = documentHosts()
const crowded = useTestServer(
  test,
  { HOLDFAST_CLIENT_ID_METADATA: 'on' },
  { guardedFetch: crowd.guardedFetch },
)
const resource = 'https://mcp.example/mcp'
const closed = 'https://closed.example'

test.before(async () => {
  const { resourceServers } = server.storage
  const scopes = ['mcp:read', 'mcp:admin']
  await resourceServers.insert({
    identifier: resource,
    name: null,
    scopes,
    openScopes: ['mcp:read'],
  })
  await resourceServers.insert({ identifier: closed, name: null, scopes: ['mcp:read'] })
})

/** Puts a document at a host of its own. */
function published(name: string, changes: Record<string, unknown> = {}): ClientMetadata {
  const client_id = `https://${name}.example/client.json`
  hosts.documents.set(client_id, agentDocument(client_id, changes))
  return { client_id }
}

const asked = { resource, scope: 'openid offline_access mcp:read', prompt: 'consent' }

async function install(
  client: ClientMetadata,
  person: Person = createPerson(server),
  parameters: Record<string, string> = {},
) {
  const key = await newKey()
  const { exchange } = await obtainCode(person, client, { ...asked, ...parameters })
  const { status, body } = await post(server, '/token', { ...exchange, resource }, { key })
  return { key, status, body, client }
}

type Installation = Awaited<ReturnType<typeof install>>

const refresh = async ({ client, body, key }: Installation, by: KeyPair = key) =>
  post(server, '/token', refreshing(client, body.refresh_token), { key: by })

async function consentPage(client: ClientMetadata, parameters: Record<string, string> = {}) {
  const { browser } = createPerson(server)
  const parameterList = new URLSearchParams({
    client_id: client.client_id,
    response_type: 'code',
    redirect_uri: 'http://127.0.0.1/callback',
    code_challenge: 'a'.repeat(43),
    code_challenge_method: 'S256',
    ...asked,
    ...parameters,
  })
  const page = await browser.visit(`${server.issuer}/authorize?${parameterList}`)
  return page.html.includes('>Sign in<')
    ? browser.submit(page, 'Sign in', { email, password })
    : page
}

const rowsOf = async (table: string) =>
  Number((await query(server.databaseUrl, `select count(*) from ${table}`))[0]?.count)

test('names what clients look for in the metadata', async (t) => {
  for (const name of ['oauth-authorization-server', 'openid-configuration']) {
    const metadata = JSON.parse(await (await fetch(`${server.issuer}/.well-known/${name}`)).text())
    t.like(metadata, {
      client_id_metadata_document_supported: true,
      authorization_response_iss_parameter_supported: true,
      registration_endpoint: `${server.issuer}/register`,
      code_challenge_methods_supported: ['S256'],
    })
    t.true(metadata.token_endpoint_auth_methods_supported.includes('none'))
    t.true(metadata.dpop_signing_alg_values_supported.includes('ES256'))
    // A bearer client can be registered by name.
    t.false('dpop_bound_access_tokens_required' in metadata)
  }
})

test('gives tokens to a client that a document describes, bound to the key of its machine', async (t) => {
  const client = published('flow')
  const agent = await install(client)
  t.is(agent.status, 200)
  t.like(agent.body, { token_type: 'DPoP', scope: 'mcp:read' })
  const claims = JSON.parse(
    Buffer.from(agent.body.access_token.split('.')[1], 'base64url').toString(),
  )
  t.like(claims, { aud: resource, client_id: client.client_id })
  t.deepEqual(claims.cnf, { jkt: await thumbprint(agent.key) })
  t.is((await refresh(agent, await newKey())).body.error, 'invalid_grant')
  t.is((await refresh(agent)).status, 200)
  t.is((await install(client)).status, 200)
})

test('shows the host of the document and of every redirect at consent', async (t) => {
  const redirect_uris = ['http://127.0.0.1/callback', 'https://elsewhere.example/callback']
  const { html } = await consentPage(published('shown', { redirect_uris }))
  t.regex(html, /shown\.example/)
  t.regex(html, /<bdi>elsewhere\.example<\/bdi>/)
  t.regex(html, /<bdi>127\.0\.0\.1<\/bdi>/)
  t.regex(html, /Not checked/)
  t.notRegex(html, /Any program on the computer/)
})

test('warns of a client whose every redirect leads to the own computer', async (t) => {
  t.regex((await consentPage(published('local'))).html, /Any program on the computer/)
})

const changes: Record<string, Record<string, unknown>> = {
  name: { client_name: 'Your bank' },
  hosts: { redirect_uris: ['https://app.example/callback', 'https://evil.example/callback'] },
  keys: { jwks: { keys: [] } },
}
/** What the engine makes of a document. */
function digestOf(changes: Record<string, unknown> = {}) {
  const client_id = 'https://digest.example/client.json'
  const document = agentDocument(client_id, changes)
  const metadata = { ...openClient('document', document, 'digest.example'), client_id }
  const client = new (server.provider as MetadataValidator).Client(metadata as ClientMetadata)
  return shownDigest(client as never, 'https://app.example/callback')
}

for (const [what, change] of Object.entries(changes)) {
  test(`asks for consent again when the ${what} of a document change`, (t) => {
    const before = { redirect_uris: ['https://app.example/callback'] }
    t.is(digestOf(before), digestOf({ ...before, client_uri: undefined }))
    t.not(digestOf(before), digestOf({ ...before, ...change }))
  })
}

test('gives no scope of an API but those that are open to every client', async (t) => {
  const client = published('scopes')
  const person = createPerson(server)
  const refused = async (parameters: Record<string, string>) => {
    const error = await t.throwsAsync(obtainCode(person, client, { ...asked, ...parameters }))
    return error?.message ?? ''
  }
  const { body } = await install(client, person, { scope: 'openid mcp:read mcp:admin' })
  t.is(body.scope, 'mcp:read')
  // An agent that knows of no scope sends none.
  const { exchange } = await obtainCode(person, client, { resource, scope: '' })
  t.is(
    (await post(server, '/token', { ...exchange, resource }, { key: await newKey() })).body.scope,
    'mcp:read',
  )
  // Nobody has allowed the other client, so that the error stays on a page.
  const other = published('scopes-closed')
  t.regex((await consentPage(other, { resource: closed })).html, /invalid|not valid|cannot/i)
  t.regex(await refused({ resource: closed }), /invalid_target/)
})

test.serial('writes nothing for a document that nobody has allowed', async (t) => {
  const tables = ['artifacts', 'clients', 'client_documents', 'browser_sessions', 'rate_limits']
  const count = () => Promise.all(tables.map(rowsOf))
  const before = await count()
  const client = published('unknown')
  const { status } = await createPerson(server).browser.visit(
    `${server.issuer}/authorize?${new URLSearchParams({ client_id: client.client_id })}`,
  )
  t.is(status, 400)
  const missing = 'https://missing.example/client.json'
  const url = `${server.issuer}/authorize?${new URLSearchParams({ client_id: missing })}`
  const { html, ...page } = await createPerson(server).browser.visit(url)
  t.is(page.status, 400)
  t.deepEqual(await count(), before)
})

test('has no unknown document fetched by a request of a machine', async (t) => {
  const { client_id } = published('machine')
  for (const path of ['/token', '/revoke', '/introspect']) {
    const parameters = { client_id, grant_type: 'refresh_token', refresh_token: 'x', token: 'x' }
    const { body } = await post(server, path, parameters, { key: await newKey() })
    t.is(body.error, 'invalid_client', path)
  }
  t.false(hosts.asked.some(([url]) => url === client_id))
})

test('lists the copies of a client, and ends one of them', async (t) => {
  const person = createPerson(server)
  const client = published('copies')
  const [one, two] = [await install(client, person), await install(client, person)]
  const jkts = await Promise.all([one, two].map(({ key }) => thumbprint(key)))
  const page = await person.browser.visit(`${server.issuer}/security/applications`)
  t.regex(page.html, /It is installed 2 times/)
  for (const jkt of jkts) t.true(page.html.includes(`<code>${jkt.slice(0, 8)}…</code>`))
  const { artifacts, accounts } = server.storage
  const accountId = (await accounts.findByEmail(email))?.account.id ?? ''
  const own = async () =>
    (await artifacts.listInstallationsOf(accountId))
      .filter(({ clientId }) => clientId === client.client_id)
      .map(({ jkt }) => jkt)
  t.deepEqual((await own()).sort(), [...jkts].sort())
  // Other tests have copies on the page as well.
  const html = page.html.slice(page.html.indexOf(`<code>${jkts[0]?.slice(0, 8)}`))
  await person.browser.submit({ ...page, html }, 'End this copy')
  t.deepEqual(await own(), [jkts[1]])
  const [ended, other] = [one, two]
  t.is((await refresh(ended)).body.error, 'invalid_grant')
  const { status, body } = await refresh(other)
  t.is(status, 200)
  // What one copy holds, the other cannot use, although both are one client.
  const stolen = { ...other, body }
  t.is((await refresh(stolen, ended.key)).body.error, 'invalid_grant')
})

test('ends a copy while it refreshes, and what came of that', async (t) => {
  const agent = await install(published('race'))
  const { artifacts, accounts } = server.storage
  const accountId = (await accounts.findByEmail(email))?.account.id ?? ''
  const jkt = await thumbprint(agent.key)
  const end = () => artifacts.endInstallation({ accountId, jkt, rememberSeconds: 3600 })
  const [{ body }, isEnded] = await Promise.all([refresh(agent), end()])
  t.true(isEnded)
  const last = body.refresh_token ? { ...agent, body } : agent
  t.is((await refresh(last)).body.error, 'invalid_grant')
  t.false(await end())
})

const sdkRegistration = {
  client_name: 'An agent that knows RFC 7591',
  redirect_uris: ['http://localhost:3118/callback'],
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  token_endpoint_auth_method: 'none',
  scope: 'mcp:read mcp:admin unknown',
}

test.serial('registers an agent without a token, and binds its tokens', async (t) => {
  const { status, body, headers } = await register(server, { body: sdkRegistration })
  t.is(status, 201)
  t.like(body, { application_type: 'native', dpop_bound_access_tokens: true })
  t.is(headers.get('access-control-allow-origin'), '*')
  for (const name of [
    'registration_access_token',
    'client_secret',
    'open_client',
    'self_registered',
  ]) {
    t.false(name in body, name)
  }
  const client = { client_id: body.client_id } as ClientMetadata
  const { html } = await consentPage(client, { redirect_uri: 'http://localhost:9999/callback' })
  t.regex(html, /This app registered itself/)
  t.regex(html, /Any program on the computer/)
  const expiry = async () =>
    (
      await query(
        server.databaseUrl,
        'select expires_at from client_registrations where client_id = $1',
        [client.client_id],
      )
    )[0]?.expires_at
  t.truthy(await expiry())
  const parameters = { redirect_uri: 'http://localhost:3118/callback' }
  const agent = await install(client, createPerson(server), parameters)
  t.like(agent.body, { token_type: 'DPoP', scope: 'mcp:read' })
  t.is(await expiry(), null)
})

const refusedRegistrations: Record<string, Record<string, unknown>> = {
  'bearer tokens': { binding_method: 'bearer' },
  'a redirect in plain HTTP': { redirect_uris: ['http://agent.example/callback'] },
  'a wildcard': { redirect_uris: ['https://*.agent.example/callback'] },
}
for (const [what, change] of Object.entries(refusedRegistrations)) {
  test.serial(`rejects ${what} in an open registration`, async (t) => {
    const { status, body } = await register(server, { body: { ...sdkRegistration, ...change } })
    t.is(status, 400)
    t.regex(body.error, /^invalid_(client_metadata|redirect_uri)$/)
  })
}

test.serial('removes a client that nobody has signed in to', async (t) => {
  const { body } = await register(server, { body: sdkRegistration })
  const { clients, registrations } = server.storage
  const expire = (at: string) =>
    query(
      server.databaseUrl,
      `update client_registrations set expires_at = ${at} where client_id = $1`,
      [body.client_id],
    )
  await expire("now() + interval '1 minute'")
  t.is((await registrations.unusedClients.removeExpired(10)).rows, 0)
  await expire("now() - interval '1 second'")
  t.is(await registrations.unusedClients.countExpired(10), 1)
  t.is((await registrations.unusedClients.removeExpired(10)).rows, 1)
  clients.forget(body.client_id)
  t.is(await clients.find(body.client_id), undefined)
})

test.serial('answers 429 in a form that clients read, beyond a limit', async (t) => {
  const statuses: number[] = []
  for (let count = 0; count < 6; count += 1) {
    statuses.push((await register(server, { body: sdkRegistration })).status)
  }
  t.is(statuses.at(-1), 429)
  const { body, headers } = await register(server, { body: sdkRegistration })
  t.is(body.error, 'too_many_requests')
  t.truthy(headers.get('retry-after'))
})

test.serial(
  'says what is wrong with a token of registration, in the form of RFC 6749',
  async (t) => {
    const { status, body } = await register(server, {
      token: 'x'.repeat(43),
      body: sdkRegistration,
    })
    t.is(status, 401)
    t.is(body.error, 'invalid_token')
  },
)

test.serial('registers no more clients while ten thousand wait for a first sign-in', async (t) => {
  const { registrations } = server.storage
  const wait = (client_id: string) =>
    registrations.registerOpen({
      metadata: { client_id },
      policy: {} as never,
      unusedToken: client_id,
    })
  t.true(await wait('before-the-limit'))
  await query(
    server.databaseUrl,
    `with made as (insert into clients (id, metadata)
       select 'waiting-' || n, '{}' from generate_series(1, 10000) as n returning id)
     insert into client_registrations (client_id, token_id, policy, came_by, expires_at)
     select id, sha256(id::bytea), '{}', 'open registration', now() + interval '1 day' from made`,
  )
  t.false(await wait('beyond-the-limit'))
  await query(server.databaseUrl, "delete from clients where id like 'waiting-%'")
  t.true(await wait('after-the-limit'))
})

test('fetches twenty unknown documents a minute for one network, and no more', async (t) => {
  const beganAt = performance.now()
  for (let count = 0; count < 45; count += 1) {
    const client_id = `https://crowd-${count}.example/client.json`
    crowd.documents.set(client_id, agentDocument(client_id))
    const asks = new URLSearchParams({ client_id, response_type: 'code' })
    await fetch(`${crowded.issuer}/authorize?${asks}`, { redirect: 'manual' })
  }
  // One more is allowed every three seconds.
  const allowed = 20 + Math.ceil((performance.now() - beganAt) / 3000)
  t.true(crowd.asked.length >= 20 && crowd.asked.length <= allowed, `${crowd.asked.length}`)
})
