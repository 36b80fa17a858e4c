import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { changeClient } from '../../src/clients/client-registration.ts'
import { createPerson, newKey, obtainCode, type Person } from '../support/flow.ts'
import { query } from '../support/query.ts'
import { initialToken, register, webClient } from '../support/registration.ts'
import { useTestServer } from '../support/server.ts'

const server = useTestServer(test, { HOLDFAST_REGISTRATION: 'on' })

const redirect_uri = 'https://app.example/callback'
const metadata = {
  application_type: 'web',
  client_name: 'Shop',
  redirect_uris: [redirect_uri],
} as const satisfies Partial<ClientMetadata>

/** What an authorization request leads a person to. */
async function visit(person: Person, client_id: string, parameters = {}) {
  const request = {
    client_id,
    response_type: 'code',
    redirect_uri,
    scope: 'openid',
    code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
    code_challenge_method: 'S256',
    ...parameters,
  }
  const { redirect_uri: until } = request
  const url = `${server.issuer}/authorize?${new URLSearchParams(request)}`
  return person.browser.visit(url, { until })
}

async function asked(person: Person, client_id: string, parameters = {}): Promise<boolean> {
  return (await visit(person, client_id, parameters)).html.includes('>Allow<')
}

/** A client of an administrator that a person has allowed. */
async function allowed() {
  const { client_id } = await server.addClient(metadata)
  const person = createPerson(server)
  await obtainCode(person, { client_id }, { redirect_uri })
  return { client_id, person }
}

const change = (client_id: string, changes: Partial<ClientMetadata>) =>
  changeClient(
    client_id,
    { ...metadata, ...changes },
    { table: server.storage.clients, validator: server.provider },
  )

test('does not ask again while a client stays as it is', async (t) => {
  const { client_id, person } = await allowed()
  t.false(await asked(person, client_id))
  await change(client_id, { redirect_uris: [redirect_uri, 'https://app.example/other'] })
  t.false(await asked(person, client_id))
})

const asksAgain = test.macro(async (t, changed: Partial<ClientMetadata>) => {
  const { client_id, person } = await allowed()
  await change(client_id, changed)
  const silent = await visit(person, client_id, { prompt: 'none' })
  t.is(silent.url.searchParams.get('error'), 'consent_required')
  const page = await visit(person, client_id)
  t.regex(page.html, /You allowed this application before/)
  t.regex(page.html, />Allow</)
  const { url } = await person.browser.submit(page, 'Allow', {}, { until: redirect_uri })
  t.truthy(url.searchParams.get('code'))
  t.false(await asked(person, client_id))
})

test('asks for consent again when a client has changed its name', asksAgain, {
  client_name: 'Bank',
})

test('asks for consent again when a client has changed its redirect hosts', asksAgain, {
  redirect_uris: [redirect_uri, 'https://evil.example/callback'],
})

test('asks for consent again when a client has changed its binding', asksAgain, {
  binding_method: 'bearer',
})

test('asks again before it sends a person to another host of a client', async (t) => {
  const other = 'https://other.example/callback'
  const { client_id } = await server.addClient({
    ...metadata,
    redirect_uris: [redirect_uri, other],
  })
  const person = createPerson(server)
  await obtainCode(person, { client_id }, { redirect_uri })
  t.true(await asked(person, client_id, { redirect_uri: other }))
  await obtainCode(person, { client_id }, { redirect_uri: other })
  t.false(await asked(person, client_id, { redirect_uri: other }))
  t.false(await asked(person, client_id))
})

test('asks once about a grant that was given before the upgrade', async (t) => {
  const { client_id, person } = await allowed()
  const old = await query(
    server.databaseUrl,
    `update artifacts set payload = (payload::jsonb - 'shown')::json
     where kind = 'Grant' and client_id = '${client_id}' and payload->'shown' is not null returning id`,
  )
  t.is(old.length, 1)
  t.true(await asked(person, client_id))
  await obtainCode(person, { client_id }, { redirect_uri })
  t.false(await asked(person, client_id))
})

test('asks for consent again when a self-registered client has changed its name', async (t) => {
  const [key, token] = [await newKey(), await initialToken(server)]
  const { body } = await register(server, { token, key, body: webClient })
  const { client_id, registration_access_token } = body
  const [uri = ''] = webClient.redirect_uris
  const to = { redirect_uri: uri }
  const person = createPerson(server)
  await obtainCode(person, body, to)
  t.false(await asked(person, client_id, to))
  const { status } = await register(server, {
    method: 'PUT',
    client: client_id,
    token: registration_access_token,
    key,
    body: { ...webClient, client_id, client_name: 'Bank' },
  })
  t.is(status, 200)
  t.true(await asked(person, client_id, to))
})
