import { readFile, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { Validator } from '@seriousme/openapi-schema-validator'
import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { createAccounts } from '../../src/accounts/accounts.ts'
import {
  createAccountTransfer,
  type ImportProblem,
} from '../../src/administration/account-transfer.ts'
import { refusal } from '../../src/administration/answers.ts'
import { createOpenapiDocument } from '../../src/administration/openapi.ts'
import { operations } from '../../src/administration/operations.ts'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import {
  type AdminRoute,
  type AdminRouteName,
  adminRoutes,
  type Method,
} from '../../src/http/routes.ts'
import { createMatcher } from '../../src/http/routing.ts'
import { replayEntry } from '../../src/storage/replay-table.ts'
import { basic, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { useFolder } from '../support/folder.ts'
import { query } from '../support/query.ts'
import { api, email, password, useTestServer } from '../support/server.ts'

const server = useTestServer(test, { HOLDFAST_ADMIN_API: 'on' })
const folder = useFolder(test)

interface Administrator {
  readonly client: ClientMetadata
  readonly key: KeyPair
  readonly token: string
}

const service = {
  grant_types: ['client_credentials'],
  response_types: [],
  redirect_uris: [],
  token_endpoint_auth_method: 'client_secret_basic',
} as const

function askForToken(client: ClientMetadata, key: KeyPair, scope: string, resource = '') {
  return post(
    server,
    '/token',
    {
      grant_type: 'client_credentials',
      resource: resource || `${server.issuer}/admin`,
      scope,
    },
    { key, headers: basic(client) },
  )
}

async function administrator(level: string, scope = 'admin:read admin:write') {
  const client = await server.addClient({ ...service, administration: level } as never)
  const key = await newKey()
  const { body } = await askForToken(client, key, scope)
  return { client, key, token: body.access_token } satisfies Administrator
}

async function call(
  { key, token }: Pick<Administrator, 'key' | 'token'>,
  method: string,
  path: string,
  body?: unknown,
  aheadS = 0,
) {
  const url = `${server.issuer}/admin${path}`
  const proof = await makeProof(key, {
    method,
    url: url.split('?')[0] ?? url,
    accessToken: token,
    iat: Math.floor(Date.now() / 1000) + aheadS,
  })
  const response = await fetch(url, {
    method,
    headers: {
      authorization: `DPoP ${token}`,
      dpop: proof,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  const text = await response.text()
  const { status, headers } = response
  // biome-ignore lint/suspicious/noExplicitAny: JSON of any shape, which the tests take apart
  const answered = (text && JSON.parse(text)) as any
  checkAgainstDocument(method, `/admin${path.split('?')[0]}`, status, answered)
  return { status, headers, body: answered }
}

const match = createMatcher({ adminApi: true, deviceFlow: true, registration: true, signUp: true })
const document = createOpenapiDocument('https://id.example', operations) as OpenapiDocument

interface OpenapiDocument {
  readonly paths: Record<string, Record<string, DescribedOperation>>
}

interface DescribedOperation {
  readonly operationId: AdminRouteName
  readonly security: readonly [{ readonly dpop: readonly string[] }]
  readonly responses: Record<string, object>
}

const described = Object.values(document.paths).flatMap((each) => Object.values(each))

/** Every answer that a test sees is one that the document describes, member by member. */
function checkAgainstDocument(method: string, path: string, status: number, body: unknown) {
  const name = match(method, path)?.name as AdminRouteName | undefined
  if (status >= 400) refusal.parse(body)
  if (name === undefined) return
  const responses = described.find(({ operationId }) => operationId === name)?.responses ?? {}
  if (!(status in responses)) throw new Error(`${name} is not described to answer ${status}`)
  const { answer } = operations[name]
  if (status >= 400 || answer.status === 204) return
  ;(answer.isList ? answer.schema.array() : answer.schema).parse(body)
}

test('a token that its client has revoked is let in no more', async (t) => {
  const by = await administrator('read')
  t.is((await call(by, 'GET', '/clients')).status, 200)
  await post(server, '/revoke', { token: by.token }, { headers: basic(by.client) })
  t.is((await call(by, 'GET', '/clients')).status, 401)
})

test('nobody gets in without a token, or with one that is not bound', async (t) => {
  const bare = await fetch(`${server.issuer}/admin/clients`)
  t.is(bare.status, 401)
  t.is(((await bare.json()) as { error: string }).error, 'invalid_token')
  t.regex(bare.headers.get('www-authenticate') ?? '', /^DPoP/)
  const { token } = await administrator('read')
  const asBearer = await fetch(`${server.issuer}/admin/clients`, {
    headers: { authorization: `Bearer ${token}` },
  })
  t.is(asBearer.status, 401)
})

for (const [title, status, type, body] of [
  ['of another content type', 415, 'text/plain', '{}'],
  ['of more than 64 KB', 413, 'application/json', `{"name":"${'x'.repeat(65_536)}"}`],
] as const) {
  test(`rejects a body ${title} with ${status}`, async (t) => {
    const { key, token } = await administrator('write')
    const url = `${server.issuer}/admin/accounts`
    const dpop = await makeProof(key, { method: 'POST', url, accessToken: token })
    const headers = { authorization: `DPoP ${token}`, dpop, 'content-type': type }
    const response = await fetch(url, { method: 'POST', headers, body })
    t.is(response.status, status)
    t.is(refusal.parse(await response.json()).error, 'invalid_request')
  })
}

test('rejects a query parameter that an operation does not have', async (t) => {
  const { status, body } = await call(await administrator('read'), 'GET', '/clients?account=a')
  t.is(status, 400)
  t.is(body.error, 'invalid_request')
})

test('rejects a body that repeats a member or is nested too deep', async (t) => {
  const admin = await administrator('write')
  for (const body of [
    '{"name":"a","name":"b"}',
    `{"name":${'['.repeat(6000)}${']'.repeat(6000)}}`,
  ]) {
    const answer = await call(admin, 'POST', '/registration-tokens', body)
    t.is(answer.status, 400)
    t.is(answer.body.error, 'invalid_request')
    t.regex(answer.body.message ?? answer.body.error_description, /names each member once/)
  }
})

test('a stolen token is refused without its key', async (t) => {
  const { token } = await administrator('read')
  t.is((await call({ token, key: await newKey() }, 'GET', '/clients')).status, 401)
})

test('a proof is good once', async (t) => {
  const { token, key } = await administrator('read')
  const url = `${server.issuer}/admin/clients`
  const dpop = await makeProof(key, { method: 'GET', url, accessToken: token })
  const headers = { authorization: `DPoP ${token}`, dpop }
  t.is((await fetch(url, { headers })).status, 200)
  t.is((await fetch(url, { headers })).status, 401)
})

test('a token for another API is refused', async (t) => {
  const client = await server.addClient({ ...service, administration: 'write' } as never)
  const key = await newKey()
  const { body } = await askForToken(client, key, 'read', api)
  t.is((await call({ key, token: body.access_token }, 'GET', '/clients')).status, 401)
})

test('a client that does not administer gets no token for it', async (t) => {
  const client = await server.addClient(service)
  const { status, body } = await askForToken(client, await newKey(), 'admin:read')
  t.is(status, 400)
  t.is(body.error, 'invalid_target')
})

test('a client that reads cannot write', async (t) => {
  const reader = await administrator('read')
  t.is((await call(reader, 'GET', '/accounts')).status, 200)
  const { status, body, headers } = await call(reader, 'POST', '/accounts', {
    email: 'x@y.example',
  })
  t.is(status, 403)
  t.is(body.error, 'insufficient_scope')
  t.regex(headers.get('www-authenticate') ?? '', /scope="admin:write"/)
})

for (const [title, metadata] of [
  [
    'people sign in to',
    {
      grant_types: ['authorization_code'],
      response_types: ['code'],
      redirect_uris: ['https://a.example/'],
    },
  ],
  ['do not authenticate', { token_endpoint_auth_method: 'none' }],
  ['have bearer tokens', { binding_method: 'bearer' }],
  ['name another level', { administration: 'root' }],
] as const) {
  test(`clients that ${title} cannot administer`, async (t) => {
    const error = await t.throwsAsync(
      server.addClient({
        ...service,
        administration: 'write',
        application_type: 'web',
        ...metadata,
      } as never),
    )
    t.regex(error?.message ?? '', /administration/)
  })
}

test('clients are added, shown without their secret, and removed with their tokens', async (t) => {
  const admin = await administrator('write')
  const added = await call(admin, 'POST', '/clients', { ...service, client_id: 'by-api' })
  t.is(added.status, 201)
  t.truthy(added.body.client_secret)
  const shown = await call(admin, 'GET', '/clients/by-api')
  t.is(shown.body.binding_method, 'dpop')
  t.false('client_secret' in shown.body)
  t.is((await call(admin, 'POST', '/clients', { ...service, client_id: 'by-api' })).status, 409)
  const asked = { grant_type: 'client_credentials' }
  const by = { key: await newKey(), headers: basic(added.body) }
  const { access_token: token } = (await post(server, '/token', asked, by)).body
  const asking = { headers: basic(admin.client) }
  t.true((await post(server, '/introspect', { token }, asking)).body.active)
  t.is((await call(admin, 'DELETE', '/clients/by-api')).status, 204)
  t.false((await post(server, '/introspect', { token }, asking)).body.active)
  t.is((await call(admin, 'GET', '/clients/by-api')).status, 404)
})

test('a client is changed as a whole, and keeps its secret and its client_id', async (t) => {
  const admin = await administrator('write')
  const key = await newKey()
  const added = await server.addClient({
    ...service,
    client_name: 'Before',
    contacts: ['a@b.example'],
  })
  const path = `/clients/${added.client_id}`
  const shown = (await call(admin, 'GET', path)).body
  const { contacts: _, ...rest } = shown
  const { status, body } = await call(admin, 'PUT', path, { ...rest, client_name: 'After' })
  t.is(status, 200)
  t.deepEqual(body, { ...rest, client_name: 'After' })
  t.deepEqual((await call(admin, 'GET', path)).body, body)
  const asking = { grant_type: 'client_credentials', resource: api }
  t.is((await post(server, '/token', asking, { key, headers: basic(added) })).status, 200)
  const [row] = (await call(admin, 'GET', `/audit?event=client.changed&client=${added.client_id}`))
    .body
  t.like(row, { actor: `client ${admin.client.client_id}`, details: { binding: 'dpop' } })
})

test('a client that is changed to authenticate by a secret gets one', async (t) => {
  const admin = await administrator('write')
  const { client_id } = await server.addClient()
  const path = `/clients/${client_id}`
  const { body } = await call(admin, 'PUT', path, {
    ...(await call(admin, 'GET', path)).body,
    token_endpoint_auth_method: 'client_secret_basic',
  })
  t.regex(body.client_secret, /^[\w-]{43}$/)
})

test('of changes and new secrets at once, nothing is lost', async (t) => {
  const admin = await administrator('write')
  const key = await newKey()
  const { client_id } = await server.addClient(service)
  const path = `/clients/${client_id}`
  const { body: before } = await call(admin, 'GET', path)
  const changes = Array.from({ length: 8 }, (_, at) =>
    call(admin, 'PUT', path, { ...before, client_name: `Name ${at}` }),
  )
  const renewed = await call(admin, 'POST', `${path}/secret`)
  for (const { status } of await Promise.all(changes)) t.is(status, 200)
  const asking = { grant_type: 'client_credentials', resource: api }
  const headers = basic(renewed.body)
  t.is((await post(server, '/token', asking, { key, headers })).status, 200)
  t.regex((await call(admin, 'GET', path)).body.client_name, /^Name \d$/)
})

for (const [title, changes] of [
  ['to another client_id', { client_id: 'another' }],
  ['to one that registered itself', { self_registered: true }],
  ['to what contradicts itself', { binding_method: 'mtls' }],
  ['to an unknown binding', { binding_method: 'none' }],
] as const) {
  test(`refuses a change of a client ${title}`, async (t) => {
    const admin = await administrator('write')
    const { client_id } = await server.addClient(service)
    const path = `/clients/${client_id}`
    const { body: before } = await call(admin, 'GET', path)
    const { status, body } = await call(admin, 'PUT', path, { ...before, ...changes })
    t.is(status, 400)
    t.is(body.error, 'invalid_client_metadata')
    t.deepEqual((await call(admin, 'GET', path)).body, before)
  })
}

test('who is not there, or only reads, changes no client', async (t) => {
  const writer = await administrator('write')
  t.is((await call(writer, 'PUT', '/clients/nobody', service)).status, 404)
  const { client_id } = await server.addClient(service)
  const reader = await administrator('read')
  t.is((await call(reader, 'PUT', `/clients/${client_id}`, service)).status, 403)
})

test('a client gets a new secret, and the one before ends', async (t) => {
  const admin = await administrator('write')
  const key = await newKey()
  const client = await server.addClient(service)
  const asking = { grant_type: 'client_credentials', resource: api }
  const authenticates = async (client: ClientMetadata) =>
    (await post(server, '/token', asking, { key, headers: basic(client) })).status
  t.is(await authenticates(client), 200)
  const { status, body } = await call(admin, 'POST', `/clients/${client.client_id}/secret`)
  t.is(status, 200)
  t.deepEqual(Object.keys(body), ['client_id', 'client_secret'])
  t.is(await authenticates(body), 200)
  t.is(await authenticates(client), 401)
  const [row] = (await call(admin, 'GET', `/audit?event=client.changed&client=${body.client_id}`))
    .body
  t.like(row, { actor: `client ${admin.client.client_id}`, details: { new_secret: true } })
  const shown = (await call(admin, 'GET', `/clients/${client.client_id}`)).body
  t.is(shown.grant_types[0], 'client_credentials')
})

test('a client that has no secret, or does not exist, gets none', async (t) => {
  const admin = await administrator('write')
  const { client_id } = await server.addClient()
  const refused = await call(admin, 'POST', `/clients/${client_id}/secret`)
  t.is(refused.status, 409)
  t.is(refused.body.error, 'conflict')
  t.regex(refused.body.error_description, /does not authenticate by a secret/)
  t.false('client_secret' in ((await server.storage.clients.find(client_id)) ?? {}))
  t.is((await call(admin, 'POST', '/clients/nobody/secret')).status, 404)
  t.is((await call(admin, 'POST', '/clients/a%00b/secret')).status, 404)
  const reader = await administrator('read')
  const path = `/clients/${admin.client.client_id}/secret`
  t.is((await call(reader, 'POST', path)).status, 403)
})

test('accounts are added, disabled and enabled, and get links and passwords', async (t) => {
  const admin = await administrator('write')
  const added = await call(admin, 'POST', '/accounts', { email: 'bob@example.com' })
  t.is(added.status, 201)
  t.true(added.body.link.startsWith(`${server.issuer}/link/`))
  t.is((await fetch(added.body.link)).status, 200)
  const invited = await call(admin, 'POST', '/accounts/bob@example.com/invite')
  t.is((await fetch(added.body.link)).status, 404)
  t.is((await fetch(invited.body.link)).status, 200)
  const reset = await call(admin, 'POST', '/accounts/bob@example.com/reset', { passkeys: true })
  t.like(reset.body, { ended: 0, revoked: 0 })
  t.is((await fetch(reset.body.link)).status, 200)
  t.is((await call(admin, 'POST', '/accounts/bob@example.com/disable')).status, 204)
  const list = (await call(admin, 'GET', '/accounts')).body
  t.true(list.find((account: { email: string }) => account.email === 'bob@example.com').disabled)
  t.is((await call(admin, 'POST', '/accounts/bob@example.com/enable')).status, 204)
  const place = '/accounts/bob@example.com/password'
  t.is((await call(admin, 'PUT', place, {})).status, 400)
  t.like(await call(admin, 'PUT', place, { password: 'passwordpassword' }), {
    status: 400,
    body: { error: 'password_guessable' },
  })
  t.is((await call(admin, 'PUT', place, { password })).status, 204)
  t.is((await call(admin, 'POST', '/accounts/nobody@example.com/disable')).status, 404)
})

test('an account is changed member by member', async (t) => {
  const admin = await administrator('write')
  const groups = ['staff']
  const account = { email: 'carol@example.com', givenName: 'Carol', groups, emailVerified: true }
  t.like((await call(admin, 'POST', '/accounts', account)).body, account)
  const path = '/accounts/carol@example.com'
  const change = { givenName: null, locale: 'pt-br', emailVerified: false }
  const { status, body } = await call(admin, 'PATCH', path, change)
  t.is(status, 200)
  t.like(body, { locale: 'pt-BR', groups })
  t.false('givenName' in body || 'emailVerified' in body)
  const [row] = (await call(admin, 'GET', '/audit?event=account.changed')).body
  t.deepEqual(row.details.changed.sort(), ['emailVerified', 'givenName', 'locale'])
  t.is((await call(admin, 'PATCH', '/accounts/nobody@example.com', change)).status, 404)
  t.is((await call(admin, 'PATCH', path, { username: 'Carol' })).body.username, 'carol')
  t.is((await call(admin, 'PATCH', path, { username: 'a@b' })).status, 400)
  const other = { email: 'carola@example.com', username: 'CAROL' }
  t.like(await call(admin, 'POST', '/accounts', other), {
    ...{ status: 409, body: { error: 'username_taken' } },
  })
  await call(admin, 'POST', '/accounts', { email: other.email })
  t.like(await call(admin, 'PATCH', '/accounts/carola@example.com', { username: 'carol' }), {
    ...{ status: 409, body: { error: 'username_taken' } },
  })
})

const foreignHash = '$2b$04$YdYY9Nvwv9P5ZK99jZDgZul9lPdI/lFgkg4L8aHBoWP5RpRtNr6XC'
const movedPasskey = {
  credentialId: 'bW92ZWQ',
  publicKey: 'YSBrZXk',
  signCount: 7,
  transports: ['usb'],
  aaguid: '08987058-cadc-4b81-b6e1-30de50dcbe96',
  name: 'Key ring',
  backupEligible: false,
  backedUp: false,
  createdAt: '2024-01-01T00:00:00+00:00',
  lastUsedAt: null,
}

test('accounts are imported once, and exported as they were', async (t) => {
  const admin = await administrator('write')
  const moved = {
    id: 'dora-1',
    email: 'dora@example.com',
    username: 'dora',
    name: 'Dora',
    emailVerified: true,
    phone: '+49301',
    phoneVerified: true,
    groups: ['staff'],
    attributes: { unit: 'x' },
    disabled: false,
    createdAt: '2020-01-01T00:00:00.000Z',
    updatedAt: '2021-01-01T00:00:00.000Z',
    passkeys: [movedPasskey],
  }
  const batch = {
    accounts: [
      { ...moved, passwordHash: foreignHash },
      { email: 'Eli@example.com', disabled: true },
    ],
  }
  const importing = (body: object) => call(admin, 'POST', '/accounts/import', body)
  t.deepEqual((await importing({ ...batch, dryRun: true })).body, {
    ...{ added: 2, existing: 0, problems: [] },
  })
  t.is(await server.storage.accounts.findById('dora-1'), undefined)
  t.deepEqual((await importing(batch)).body, { added: 2, existing: 0, problems: [] })
  t.deepEqual((await importing(batch)).body, { added: 0, existing: 2, problems: [] })

  const exporting = (query: string) => call(admin, 'GET', `/accounts/export?${query}`)
  const all = (await exporting('limit=500')).body
  const find = (address: string) => all.find((each: { email: string }) => each.email === address)
  t.deepEqual(find('dora@example.com'), moved)
  t.true(find('eli@example.com').disabled)
  t.deepEqual((await exporting('limit=1&after=dora-0')).body, [moved])
  t.notDeepEqual((await exporting('limit=1&after=dora-1')).body, [moved])
  t.notRegex(JSON.stringify(all), /argon2|\$2b/)

  // Whose password was hashed elsewhere signs in with it.
  const credentials = { email: 'dora@example.com', password: 'correct horse battery' }
  await obtainCode(createPerson(server, { credentials }), await server.addClient())
  const found = await server.storage.accounts.findByEmail('dora@example.com')
  t.regex(found?.passwordHash ?? '', /^\$argon2id/)
  const rows = (await call(admin, 'GET', '/audit?event=accounts.imported')).body
  const actor = `client ${admin.client.client_id}`
  const mine = rows.filter((row: { actor: string }) => row.actor === actor)
  t.like(mine, [{ details: { added: 2, first_line: 1, last_line: 2 } }])
})

test('nothing is imported while an account has a problem', async (t) => {
  const admin = await administrator('write')
  const importing = (accounts: object[]) => call(admin, 'POST', '/accounts/import', { accounts })
  const present = { id: 'frank-1', email: 'frank@example.com', username: 'frank' }
  const passkeys = [{ ...movedPasskey, credentialId: 'ZnJhbms' }]
  t.is((await importing([{ ...present, passkeys }])).body.added, 1)
  const { body } = await importing([
    { email: 'new@example.com' },
    { email: 'no email' },
    { email: 'a@example.com', passwordHash: foreignHash.replace('$04', '$31') },
    { email: 'b@example.com', locale: '?' },
    { email: 'NEW@example.com' },
    { id: 'frank-1', email: 'other@example.com' },
    { id: 'frank-2', email: 'frank@example.com' },
    { email: 'c@example.com', passkeys },
    { email: 'd@example.com', passkeys },
    { email: 'e@example.com', username: 'Frank' },
    { id: 'frank-1', email: 'frank@example.com' },
  ])
  t.like(body, { added: 0, existing: 0 })
  t.deepEqual(
    body.problems.map(({ line, problem }: { line: number; problem: string }) => [
      line,
      problem.split(' ').slice(0, 4).join(' '),
    ]),
    [
      [2, 'Expected an email address'],
      [3, 'passwordHash must be a'],
      [4, 'Invalid account: locale must'],
      [5, 'email is that of'],
      [6, 'id is that of'],
      [7, 'the account for frank@example.com'],
      [8, 'one of its passkeys'],
      [9, 'passkey is that of'],
      [10, 'username frank is that'],
      [11, 'email is that of'],
    ],
  )
  t.is(
    (await call(admin, 'GET', '/accounts/export?limit=500')).body.filter(
      ({ email: address }: { email: string }) => address === 'new@example.com',
    ).length,
    0,
  )
  const answer = await importing([{ email: 'x@example.com', password }])
  t.is(answer.status, 400)
  t.is((await importing([{ ...present, id: 'with space' }])).status, 400)
  const reader = await administrator('read')
  t.is((await call(reader, 'POST', '/accounts/import', { accounts: [present] })).status, 403)
})

test('an account is removed with everything that it has', async (t) => {
  const admin = await administrator('write')
  const { credentials, client, key, tokens } = await offline('leaves@example.com')
  const id = (await server.storage.accounts.findByEmail(credentials.email))?.account.id ?? ''
  const path = `/accounts/${credentials.email}`
  const before = await rowsOf(id)
  t.true(before.sessions === 1 && before.grants === 1 && before.events > 0, JSON.stringify(before))
  t.deepEqual((await call(admin, 'DELETE', path)).body, { ended: 1, revoked: 1 })
  const refreshed = await post(server, '/token', refreshing(client, tokens.refresh_token), { key })
  t.is(refreshed.body.error, 'invalid_grant')
  const introspected = { token: tokens.access_token }
  const asking = { headers: basic(admin.client) }
  t.false((await post(server, '/introspect', introspected, asking)).body.active)
  t.deepEqual(await rowsOf(id), { accounts: 0, events: 0, failures: 0, sessions: 0, grants: 0 })
  t.is((await call(admin, 'DELETE', path)).status, 404)
  const [row] = (await call(admin, 'GET', `/audit?event=account.removed&account=${id}`)).body
  t.deepEqual(row.details, { ended: 1, revoked: 1 })
  t.notRegex(JSON.stringify((await call(admin, 'GET', `/audit?account=${id}`)).body), /leaves@/)
})

/** What there is of an account. */
async function rowsOf(id: string) {
  const [row] = await query(
    server.databaseUrl,
    `select (select count(*)::int from accounts where id = $1) as accounts,
            (select count(*)::int from security_events where account_id = $1) as events,
            (select count(*)::int from failed_sign_ins where account_id = $1) as failures,
            (select count(*)::int from browser_sessions where account_id = $1 and ended_at is null) as sessions,
            (select count(*)::int from artifacts where kind = 'Grant' and payload->>'accountId' = $1) as grants`,
    [id],
  )
  return row as Record<'accounts' | 'events' | 'failures' | 'sessions' | 'grants', number>
}

test('a file is checked as a whole before its lines are imported', async (t) => {
  const changes: unknown[] = []
  const recordChange = (...change: unknown[]) => changes.push(change)
  const transfer = createAccountTransfer(server.storage.accountTransfers, recordChange, Date.now)
  const file = path.join(folder, 'people.jsonl')
  const run = async (lines: string[], dryRun = false) => {
    await writeFile(file, lines.join('\n'))
    const problems: ImportProblem[] = []
    const onProblem = (problem: ImportProblem) => problems.push(problem)
    const options = { dryRun, onProblem, onProgress() {} }
    return { ...(await transfer.importFile(file, options)), problems }
  }
  // More than one batch, and one line that is there twice, far from the first.
  const people = Array.from({ length: 1200 }, (_, at) => `{"email":"p${at}@many.example"}`)
  const wrong = [...people, '', '{"email":"p3@many.example"}', 'x'.repeat(300_000), '{"a":1,"a":2}']
  const refused = await run(wrong)
  t.like(refused, { imported: false })
  t.deepEqual(
    refused.problems.map(({ line }) => line),
    [1202, 1203, 1204],
  )
  t.regex(refused.problems[0]?.problem ?? '', /email is that of line 4/)
  t.is(await server.storage.accounts.findByEmail('p3@many.example'), undefined)
  t.like(await run(people, true), { added: 1200, existing: 0, imported: false })
  t.is(await server.storage.accounts.findByEmail('p3@many.example'), undefined)
  // One that was interrupted after its first batch.
  t.like(await run(people.slice(0, 500)), { added: 500, imported: true })
  t.like(await run(people), { lines: 1200, added: 700, existing: 500, imported: true })
  t.is(changes.length, 3)
  await t.throwsAsync(
    transfer.importFile(`${file}.no`, { dryRun: true, onProblem() {}, onProgress() {} }),
    {
      code: 'invalid_request',
    },
  )
})

test('an export restores an account that was removed', async (t) => {
  const table = server.storage.accountTransfers
  const transfer = createAccountTransfer(table, () => {}, Date.now)
  const account = {
    ...{
      id: 'round-1',
      email: 'round@example.com',
      name: 'Round',
      locale: 'en-GB',
      disabled: true,
    },
    ...{ groups: ['a', 'b'], attributes: { unit: 'x' }, emailVerified: true, phone: '+49302' },
    ...{ createdAt: '2020-01-01T00:00:00Z', passwordHash: foreignHash },
    passkeys: [{ ...movedPasskey, credentialId: 'cm91bmQ', lastUsedAt: '2024-02-02T00:00:00Z' }],
  }
  t.is((await transfer.import([account])).added, 1)
  const before = await table.listAfter('round-', 1)
  const files = [path.join(folder, 'hashes.jsonl'), path.join(folder, 'no-hashes.jsonl')] as const
  for (const [at, file] of files.entries()) {
    const { accounts } = await transfer.exportFile(file, { withHashes: at === 0 })
    t.is((await readFile(file, 'utf8')).trim().split('\n').length, accounts)
    t.is((await stat(file)).mode & 0o777, 0o600)
  }
  t.notRegex(await readFile(files[1], 'utf8'), /\$2b|argon2|passwordHash/)
  await t.throwsAsync(transfer.exportFile(files[0], { withHashes: true }), { code: 'conflict' })
  const lines = (await readFile(files[0], 'utf8')).split('\n')
  const line = JSON.parse(lines.find((each) => each.includes('"round-1"')) ?? '')
  await server.storage.accounts.remove('round-1')
  t.is((await transfer.import([line])).added, 1)
  t.deepEqual(await table.listAfter('round-', 1), before)
})

test('custom claims are one document, of which all problems are named', async (t) => {
  const admin = await administrator('write')
  const mappings = [
    { claim: 'department', scope: 'profile', attribute: 'department' },
    { claim: 'tier', scope: 'read', client: 'app', value: { level: 2 } },
    { claim: 'email', scope: 'read', attribute: 'email' },
  ]
  t.deepEqual((await call(admin, 'PUT', '/claims', mappings)).body, mappings)
  t.deepEqual((await call(admin, 'GET', '/claims')).body, mappings)
  const wrong = [
    { claim: 'sub', scope: 'openid', value: 1 },
    { claim: 'urn:holdfast:x', scope: 'openid', value: 1 },
    { claim: 'a', scope: 'two scopes', value: 1 },
    { claim: 'b', scope: 'openid' },
    { claim: 'c', scope: 'openid', attribute: 'x', value: 1 },
    { claim: 'email_verified', scope: 'openid', value: true },
    { claim: 'd', scope: 'openid', value: 'x'.repeat(5000) },
    { claim: 'f', scope: 'openid', value: 'a\0' },
    { claim: 'e', scope: 'openid', value: 1 },
    { claim: 'e', scope: 'openid', value: 2 },
  ]
  const { status, body } = await call(admin, 'PUT', '/claims', wrong)
  t.is(status, 400)
  for (const at of [0, 1, 2, 3, 4, 5, 6, 7, 9]) {
    t.regex(body.error_description, new RegExp(`(^|; )${at}(\\.\\w+)?: `), String(at))
  }
  for (const claim of 'iss aud cnf acr amr exp client_id scope sid'.split(' ')) {
    const mapping = { claim, scope: 'openid', value: 'x' }
    t.is((await call(admin, 'PUT', '/claims', [mapping])).status, 400, claim)
  }
  t.deepEqual((await call(admin, 'GET', '/claims')).body, mappings)
})

const png = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
)

test('a logo is uploaded, served by its digest, and kept by a change of the client', async (t) => {
  const admin = await administrator('write')
  const client_id = 'with-logo'
  await call(admin, 'POST', '/clients', { ...service, client_id })
  const path = `/clients/${client_id}`
  const upload = (bytes: Buffer) =>
    call(admin, 'PUT', `${path}/logo`, { image: bytes.toString('base64') })
  t.is((await upload(png)).status, 204)
  const { logo } = (await call(admin, 'GET', path)).body
  const served = await fetch(`${server.issuer}/logos/${logo}`)
  t.is(served.headers.get('content-type'), 'image/png')
  t.is(served.headers.get('x-content-type-options'), 'nosniff')
  t.deepEqual(Buffer.from(await served.arrayBuffer()), png)
  t.is((await call(admin, 'PUT', path, service)).body.logo, logo)
  t.is((await call(admin, 'PUT', path, { ...service, logo: 'other' })).status, 400)
  t.is((await call(admin, 'POST', '/clients', { ...service, logo })).status, 400)
  const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>')
  for (const wrong of [svg, Buffer.concat([png, Buffer.alloc(32 * 1024)]), Buffer.alloc(0)]) {
    t.is((await upload(wrong)).status, 400)
  }
  t.is((await call(admin, 'DELETE', `${path}/logo`)).status, 204)
  t.is((await call(admin, 'GET', path)).body.logo, undefined)
  t.is((await call(admin, 'DELETE', `${path}/logo`)).status, 404)
  t.is((await fetch(`${server.issuer}/logos/nothing`)).status, 404)
})

test('a person is signed out everywhere, and keeps what outlives a sign-in', async (t) => {
  const admin = await administrator('write')
  const { credentials, client, key, tokens } = await offline('keeps@example.com')
  const path = `/accounts/${credentials.email}/sign-out`
  t.deepEqual((await call(admin, 'POST', path, {})).body, { ended: 1, revoked: 0 })
  t.deepEqual((await call(admin, 'GET', `/sessions?account=${credentials.email}`)).body, [])
  const refreshed = await post(server, '/token', refreshing(client, tokens.refresh_token), { key })
  t.is(refreshed.status, 200)
  t.deepEqual((await call(admin, 'POST', path, {})).body, { ended: 0, revoked: 0 })
})

test('a person is signed out everywhere, and all tokens end', async (t) => {
  const admin = await administrator('write')
  const { credentials, client, key, tokens } = await offline('loses@example.com')
  const path = `/accounts/${credentials.email}/sign-out`
  const answer = await call(admin, 'POST', path, { tokens: true })
  t.deepEqual(answer.body, { ended: 1, revoked: 1 })
  const refreshed = await post(server, '/token', refreshing(client, tokens.refresh_token), { key })
  t.is(refreshed.body.error, 'invalid_grant')
  const rows = (await call(admin, 'GET', '/audit?event=account.signed_out')).body
  const actor = `client ${admin.client.client_id}`
  const mine = rows.filter((row: { actor: string }) => row.actor === actor)
  t.like(mine, [{ details: { ended: 1, revoked: 1 } }])
})

test('lists and removes the passkeys of an account, and ends its sign-ins', async (t) => {
  const admin = await administrator('write')
  const { credentials } = await offline('passkeys@example.com')
  const path = `/accounts/${credentials.email}/passkeys`
  t.deepEqual((await call(admin, 'GET', path)).body, [])
  const owner = await server.storage.accounts.findByEmail(credentials.email)
  const accountId = owner?.account.id ?? ''
  const by = { accountId, sessionUid: undefined, address: undefined, userAgent: undefined }
  await server.storage.passkeys.add(
    {
      accountId,
      credentialId: 'AAAA',
      publicKey: Buffer.from('a key'),
      signCount: 0,
      transports: ['usb'],
      aaguid: '08987058-cadc-4b81-b6e1-30de50dcbe96',
      attested: false,
      name: 'Key ring',
      backupEligible: false,
      backedUp: false,
    },
    replayEntry('passkey', credentials.email, Date.now() / 1000 + 60),
    by,
  )
  const [listed] = (await call(admin, 'GET', path)).body
  t.like(listed, { name: 'Key ring', transports: ['usb'], lastUsedAt: null })
  t.false('credentialId' in listed)
  t.is((await call(admin, 'DELETE', `${path}/${listed.id}`)).status, 204)
  t.is((await call(admin, 'DELETE', `${path}/${listed.id}`)).status, 404)
  t.is((await call(admin, 'DELETE', `${path}/AAAA`)).status, 404)
  t.deepEqual((await call(admin, 'GET', path)).body, [])
  t.deepEqual((await call(admin, 'GET', `/sessions?account=${credentials.email}`)).body, [])
  const rows = (await call(admin, 'GET', '/audit?event=account.passkey_removed')).body
  t.like(rows.at(-1), { account: accountId, details: { passkey: listed.id } })
})

test('nobody is signed out who does not exist', async (t) => {
  const admin = await administrator('write')
  const { status } = await call(admin, 'POST', '/accounts/nobody@example.com/sign-out', {})
  t.is(status, 404)
})

/** A person of their own who has let an application in for as long as it likes. */
async function offline(address: string) {
  const credentials = { email: address, password }
  await createAccounts({ store: server.storage.accounts }).add(credentials)
  const client = await server.addClient()
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson(server, { credentials }), client, {
    scope: 'openid offline_access',
    prompt: 'consent',
  })
  const { body: tokens } = await post(server, '/token', exchange, { key })
  return { credentials, client, key, tokens }
}

test('invitations are created, listed without their codes, and revoked', async (t) => {
  const admin = await administrator('write')
  const asked = { name: 'Spring course', uses: 3, groups: ['students', 'students'] }
  const { status, body } = await call(admin, 'POST', '/invitations', asked)
  t.is(status, 201)
  const { code, link, ...stored } = body
  t.regex(code, /^([\da-z]{6}-){3}[\da-z]{6}$/)
  t.true(link.endsWith(`/sign-up?code=${code}`))
  t.like(stored, { name: 'Spring course', uses: 3, usesLeft: 3, groups: ['students'] })
  const list = (await call(admin, 'GET', '/invitations')).body
  t.deepEqual(
    list.find(({ id }: { id: string }) => id === stored.id),
    stored,
  )
  for (const wrong of [{}, { ...asked, uses: 0 }, { ...asked, groups: ['\u200b'] }]) {
    t.is((await call(admin, 'POST', '/invitations', wrong)).status, 400)
  }
  const reader = await administrator('read')
  t.is((await call(reader, 'POST', '/invitations', asked)).status, 403)
  t.is((await call(admin, 'DELETE', `/invitations/${code}`)).status, 404)
  t.is((await call(admin, 'DELETE', `/invitations/${stored.id}`)).status, 204)
  t.is((await call(admin, 'DELETE', `/invitations/${stored.id}`)).status, 404)
  const rows = (await call(admin, 'GET', '/audit?event=invitation.revoked')).body
  t.true(rows.some(({ details }: { details: object }) => 'id' in details))
})

test('changes the email of an account, which is unverified then', async (t) => {
  const admin = await administrator('write')
  await call(admin, 'POST', '/accounts', { email: 'moves@example.com', emailVerified: true })
  const path = '/accounts/moves@example.com'
  const taken = await call(admin, 'PATCH', path, { email: 'ADA@example.com' })
  t.is(taken.status, 409)
  t.is((await call(admin, 'PATCH', path, { email: 'nobody' })).status, 400)
  const { status, body } = await call(admin, 'PATCH', path, { email: 'Moved@example.com' })
  t.is(status, 200)
  t.is(body.email, 'moved@example.com')
  t.false('emailVerified' in body)
  t.is((await call(admin, 'PATCH', path, { name: 'Ada' })).status, 404)
})

test('registration tokens are made, listed without themselves, and removed', async (t) => {
  const admin = await administrator('write')
  const asked = { name: 'Shop team', uses: 3, redirectHosts: ['Shop.example.com'] }
  const { status, body } = await call(admin, 'POST', '/registration-tokens', asked)
  t.is(status, 201)
  t.regex(body.token, /^[\w-]{43}$/)
  const { token, ...stored } = body
  t.like(stored, { name: 'Shop team', uses: 3, usesLeft: 3, bearer: false, jkt: null })
  t.deepEqual(stored.policy.redirectHosts, ['shop.example.com'])
  t.false(stored.policy.bindingMethods.includes('bearer'))
  const list = (await call(admin, 'GET', '/registration-tokens')).body
  t.deepEqual(
    list.find(({ id }: { id: string }) => id === stored.id),
    stored,
  )
  t.is((await call(admin, 'DELETE', `/registration-tokens/${token}`)).status, 404)
  t.is((await call(admin, 'DELETE', `/registration-tokens/${stored.id}`)).status, 204)
  t.is((await call(admin, 'DELETE', `/registration-tokens/${stored.id}`)).status, 404)
  const rows = (await call(admin, 'GET', '/audit?event=registration_token.removed')).body
  t.true(rows.some(({ details }: { details: object }) => 'id' in details))
})

test('a session is listed and ended, and its refresh token with it', async (t) => {
  const admin = await administrator('write')
  const client = await server.addClient()
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body: tokens } = await post(server, '/token', exchange, { key })
  const list = (await call(admin, 'GET', `/sessions?account=${email}`)).body
  const session = list.find(({ clients }: { clients: string[] }) =>
    clients.includes(client.client_id),
  )
  t.is((await call(admin, 'DELETE', `/sessions/${session.id}`)).status, 204)
  const refreshed = await post(server, '/token', refreshing(client, tokens.refresh_token), { key })
  t.is(refreshed.body.error, 'invalid_grant')
  t.is((await call(admin, 'DELETE', `/sessions/${session.id}`)).status, 404)
})

test('a grant is listed and revoked, and its refresh token with it', async (t) => {
  const admin = await administrator('write')
  const client = await server.addClient()
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body: tokens } = await post(server, '/token', exchange, { key })
  const [grant, ...others] = (await call(admin, 'GET', `/grants?client=${client.client_id}`)).body
  t.deepEqual(others, [])
  t.deepEqual(grant.scopes, ['openid'])
  t.is((await call(admin, 'DELETE', `/grants/${grant.id}`)).status, 204)
  const refreshed = await post(server, '/token', refreshing(client, tokens.refresh_token), { key })
  t.is(refreshed.body.error, 'invalid_grant')
})

test('APIs are added and removed', async (t) => {
  const admin = await administrator('write')
  const identifier = 'https://orders.example'
  const added = await call(admin, 'POST', '/resources', { identifier, scopes: ['read'] })
  t.deepEqual(added.body, {
    identifier,
    name: null,
    scopes: ['read'],
    openScopes: [],
    scopeLabels: {},
    signingAlg: 'ES256',
    authorizationDetailsTypes: {},
  })
  const path = `/resources/${encodeURIComponent(identifier)}`
  const types = { payment: { label: 'Pay', members: { to: { kind: 'string' } } } }
  const set = (at: string, body: object) =>
    call(admin, 'PUT', `${at}/authorization-details-types`, body)
  t.deepEqual((await set(path, types)).body, { identifier, authorizationDetailsTypes: types })
  t.is((await set(path, { payment: { label: 'Pay' } })).status, 400)
  t.is((await set('/resources/none', types)).status, 404)
  const other = 'https://other-orders.example'
  await call(admin, 'POST', '/resources', { identifier: other, scopes: [] })
  t.is((await set(`/resources/${encodeURIComponent(other)}`, types)).status, 409)
  t.is((await set(path, {})).status, 200)
  t.is((await set(`/resources/${encodeURIComponent(other)}`, types)).status, 200)
  t.is((await call(admin, 'DELETE', path)).status, 204)
  t.is((await call(admin, 'DELETE', path)).status, 404)
})

interface Key {
  readonly kid: string
  readonly purpose: string
  readonly state: string
}

const keysOf = async (admin: Administrator, purpose: string): Promise<Key[]> =>
  (await call(admin, 'GET', '/keys')).body.filter((key: Key) => key.purpose === purpose)

const publicKids = async () =>
  ((await (await fetch(`${server.issuer}/jwks`)).json()) as { keys: Key[] }).keys.map(
    ({ kid }) => kid,
  )

const auditOf = async (admin: Administrator, event: string, kid: string) =>
  (await call(admin, 'GET', `/audit?event=${event}&limit=1000`)).body.filter(
    (row: { details: { kid: string } }) => row.details.kid === kid,
  )

test('lists keys to a reader, and shows none of them', async (t) => {
  const { status, body } = await call(await administrator('read'), 'GET', '/keys')
  t.is(status, 200)
  t.is(new Set(body.map(({ purpose }: Key) => purpose)).size, 8)
  const members = 'createdAt endsAt kid purpose readable signsFrom signsUntil state'
  for (const key of body) t.is(Object.keys(key).sort().join(' '), members)
})

for (const [path, body] of [
  ['/keys/rotate', {}],
  ['/keys/any/retire', { now: true }],
] as const) {
  test(`rejects changes of keys by a reader: ${path}`, async (t) => {
    const answer = await call(await administrator('read'), 'POST', path, body)
    t.is(answer.status, 403)
    t.is(answer.body.error, 'insufficient_scope')
  })
}

test('a next key is published at once, told with who made it, and is the next one again', async (t) => {
  const admin = await administrator('write')
  const rotate = () => call(admin, 'POST', '/keys/rotate', { purposes: ['PS256', 'cookie'] })
  const { status, body } = await rotate()
  t.is(status, 200)
  t.like(body, [
    { purpose: 'PS256', state: 'published' },
    { purpose: 'cookie', state: 'published' },
  ])
  const [{ kid }] = body as [Key]
  t.true((await publicKids()).includes(kid))
  t.deepEqual((await rotate()).body, body)
  const actor = `client ${admin.client.client_id}`
  t.like(await auditOf(admin, 'key.made', kid), [{ actor, details: { purpose: 'PS256' } }])
})

test('eight administrators who rotate at once get the same next keys', async (t) => {
  const admins = await Promise.all(Array.from({ length: 8 }, () => administrator('write')))
  const purposes = ['dpop-nonce', 'form-token', 'dpop-nonce']
  const answers = await Promise.all(
    admins.map((admin) => call(admin, 'POST', '/keys/rotate', { purposes })),
  )
  const [admin] = admins as [Administrator]
  const [first] = answers as [Awaited<ReturnType<typeof call>>]
  for (const { status, body } of answers) {
    t.is(status, 200)
    t.deepEqual(body, first.body)
  }
  for (const { purpose, kid } of first.body as Key[]) {
    t.like(await keysOf(admin, purpose), [{ state: 'signing' }, { state: 'published', kid }])
    t.is((await auditOf(admin, 'key.made', kid)).length, 1)
  }
})

test('retires a key on schedule, or now, and signs with another one', async (t) => {
  const admin = await administrator('write')
  const [{ kid }] = (await keysOf(admin, 'EdDSA')) as [Key]
  const inTime = await call(admin, 'POST', `/keys/${kid}/retire`, {})
  t.is(inTime.status, 200)
  t.like(inTime.body, { kid, state: 'signing' })
  t.truthy(inTime.body.endsAt)
  const { successor } = inTime.body
  t.true((await publicKids()).includes(kid))
  const now = await call(admin, 'POST', `/keys/${kid}/retire`, { now: true })
  t.like(now.body, { kid, state: 'retired', successor })
  const kids = await publicKids()
  t.false(kids.includes(kid))
  t.true(kids.includes(successor))
  t.like(await auditOf(admin, 'key.retired', kid), [
    { actor: `client ${admin.client.client_id}`, details: { purpose: 'EdDSA' } },
  ])
  const again = await call(admin, 'POST', `/keys/${kid}/retire`, { now: true })
  t.like(again.body, { kid, state: 'retired' })
})

for (const kid of ['unknown', 'a%00b', '..']) {
  test(`there is no key ${kid} to retire`, async (t) => {
    const path = `/keys/${kid}/retire`
    const { status } = await call(await administrator('write'), 'POST', path, { now: true })
    t.is(status, 404)
  })
}

test('the audit trail is found by a date, and by the email of an account', async (t) => {
  const admin = await administrator('read')
  await createAccounts({ store: server.storage.accounts }).add({
    email: 'found@example.com',
    password,
  })
  t.deepEqual((await call(admin, 'GET', '/audit?account=found@example.com')).body, [])
  t.is((await call(admin, 'GET', '/audit?account=nobody@example.com')).status, 404)
  t.is((await call(admin, 'GET', '/audit?since=0001-01-01&limit=1')).body.length, 1)
  t.is((await call(admin, 'GET', '/audit?since=9999-12-31T23:59:59.9Z')).body.length, 0)
})

test('reads the audit trail after an id beyond 2^31', async (t) => {
  const admin = await administrator('read')
  for (const after of [2 ** 31, Number.MAX_SAFE_INTEGER]) {
    const { status, body } = await call(admin, 'GET', `/audit?after=${after}`)
    t.deepEqual([status, body], [200, []])
  }
})

test('accepts a proof of the time window of /token, earlier and later', async (t) => {
  const admin = await administrator('read')
  for (const [aheadS, status] of [
    [8, 200],
    [-280, 200],
    [30, 401],
    [-320, 401],
  ] as const) {
    t.is(
      (await call(admin, 'GET', '/audit?limit=1', undefined, aheadS)).status,
      status,
      `${aheadS}`,
    )
  }
})

test('a change is in the audit trail when it is answered, with who made it', async (t) => {
  const admin = await administrator('write')
  await call(admin, 'POST', '/clients', { ...service, client_id: 'audited' })
  const [row] = (await call(admin, 'GET', '/audit?client=audited')).body
  t.is(row.event, 'client.added')
  t.is(row.actor, `client ${admin.client.client_id}`)
  t.deepEqual(row.details, { binding: 'dpop' })
})

const bearerOfKey = { name: 'x', bearer: true, jkt: `${'x'.repeat(42)}A` }

for (const [title, method, path, body] of [
  ['an unknown member', 'POST', '/accounts', { email: 'a@b.example', admin: true }],
  ['another type', 'POST', '/accounts', { email: 7 }],
  ['metadata that contradicts itself', 'POST', '/clients', { binding_method: 'none' }],
  ['a registration token without a name', 'POST', '/registration-tokens', {}],
  ['one that is bound and bearer', 'POST', '/registration-tokens', bearerOfKey],
  [
    'one of an unknown grant type',
    'POST',
    '/registration-tokens',
    { name: 'x', grantTypes: ['x'] },
  ],
  ['a client_id that is null', 'POST', '/clients', { ...service, client_id: null }],
  ['a client that registered itself', 'POST', '/clients', { self_registered: true }],
  ['a sign-out of more', 'POST', '/accounts/x@y.example/sign-out', { everybody: true }],
  ['a rotation of what has no keys', 'POST', '/keys/rotate', { purposes: ['HS256'] }],
  ['a rotation of nothing', 'POST', '/keys/rotate', { purposes: [] }],
  ['a rotation of one member', 'POST', '/keys/rotate', { purpose: 'ES256' }],
  ['a retirement at another time', 'POST', '/keys/x/retire', { now: 'tomorrow' }],
  ['U+0000 as a client', 'GET', '/grants?client=%00', undefined],
  ['U+0000 as an account', 'GET', '/sessions?account=%00', undefined],
  ['U+0000 as an event', 'GET', '/audit?event=%00', undefined],
  ['an event that does not exist', 'GET', '/audit?event=login.fail', undefined],
  ['a counted event as a kind of row', 'GET', '/audit?event=rate.limited', undefined],
  ['U+0000 in the client of events', 'GET', '/audit?client=a%00', undefined],
  ['to disable an account by no email', 'POST', '/accounts/nobody/disable', undefined],
  ['an unknown filter', 'GET', '/grants?klient=web-shop', undefined],
  ['an unknown filter of sessions', 'GET', '/sessions?client=web-shop', undefined],
  ['two values of one filter', 'GET', '/grants?client=a&client=b', undefined],
  ['a number as a time', 'GET', '/audit?since=5', undefined],
  ['a time before time', 'GET', '/audit?since=-271821-04-20T00:00:00Z', undefined],
  ['an API at U+0000', 'POST', '/resources', { identifier: 'https://a.example/\0', scopes: [] }],
  ['an API at two lines', 'POST', '/resources', { identifier: 'https://a.example/\n', scopes: [] }],
  ['an API after a space', 'POST', '/resources', { identifier: ' https://a.example', scopes: [] }],
  ...(['a\nb', 'a\u202e', '\u200b', 'a\u{e0041}', 'x'.repeat(10_240)] as const).map(
    (name) =>
      [
        `an API called ${encodeURIComponent(name).slice(0, 20)}`,
        'POST',
        '/resources',
        { identifier: 'https://a.example', name, scopes: [] },
      ] as const,
  ),
  [
    'a label of another scope',
    'POST',
    '/resources',
    { identifier: 'https://a.example', scopes: ['read'], scopeLabels: { write: 'Change' } },
  ],
  [
    'a label that turns the text around it',
    'POST',
    '/resources',
    { identifier: 'https://a.example', scopes: ['read'], scopeLabels: { read: 'a\u202e' } },
  ],
  ['an event id above 2^53', 'GET', '/audit?after=9007199254740992', undefined],
  ['an event id of many digits', 'GET', `/audit?after=${'9'.repeat(400)}`, undefined],
  ['an event id that is no integer', 'GET', '/audit?after=1.5', undefined],
  ['an empty event id', 'GET', '/audit?after=', undefined],
  ['a limit without end', 'GET', '/audit?limit=1000000', undefined],
  ['a malformed time', 'GET', '/audit?since=yesterday', undefined],
] as const) {
  test(`refuses ${title}`, async (t) => {
    const { status, body: answer } = await call(await administrator('write'), method, path, body)
    t.is(status, 400)
    t.is(typeof answer.error_description, 'string')
  })
}

test('serves an OpenAPI document of every admin route, with its scope and statuses', async (t) => {
  const { status, body: served } = await call(await administrator('read'), 'GET', '/openapi.json')
  t.is(status, 200)
  t.deepEqual(served, JSON.parse(JSON.stringify(createOpenapiDocument(server.issuer, operations))))
  const { valid, errors } = await new Validator().validate(served)
  t.true(valid, JSON.stringify(errors))
  t.deepEqual(
    described.map(({ operationId }) => operationId).sort(),
    Object.keys(adminRoutes).sort(),
  )
  for (const [name, { methods, path, scope }] of Object.entries<AdminRoute>(adminRoutes)) {
    const at = path.replace(/^\/admin/, '').replace(/:(\w+)/g, '{$1}')
    const [method] = methods as [Method]
    const operation = served.paths[at][method.toLowerCase()]
    t.is(operation.operationId, name)
    t.deepEqual(operation.security, [{ dpop: [scope] }])
    const { body } = operations[name as AdminRouteName]
    t.is('requestBody' in operation, body !== undefined)
    const refusals = ['400', '401', '403', '500', '503', ...(body ? ['413', '415'] : [])]
    for (const status of refusals) t.true(status in operation.responses, `${name} ${status}`)
  }
})
