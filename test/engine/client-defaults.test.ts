import test from 'ava'
import { decodeJwt } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import {
  changeClient,
  prepareClient,
  type RequestedMetadata,
} from '../../src/clients/client-registration.ts'
import type { KeyPair } from '../../src/doctor/proof.ts'
import { askForCode, deviceEnvironment, deviceGrant, typeCode } from '../support/device-flow.ts'
import { basic, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { api, email, password, publicClient, useTestServer } from '../support/server.ts'

// As many libraries do, no request here sends `resource` or `prompt`, unless it says so.
const server = useTestServer(test, deviceEnvironment)
const other = 'https://other.example.com'
let key: KeyPair
let app: ClientMetadata

test.before(async () => {
  key = await newKey()
  app = await server.addClient()
  const scopes = ['write', 'audit']
  await server.storage.resourceServers.insert({ identifier: other, name: null, scopes })
})

const service = {
  redirect_uris: [],
  response_types: [],
  grant_types: ['client_credentials'],
  token_endpoint_auth_method: 'client_secret_basic',
} as const

const ask = (client: ClientMetadata, form: Record<string, string>) =>
  post(
    server,
    '/token',
    { grant_type: 'client_credentials', ...form },
    { key, headers: basic(client) },
  )

async function signIn(scope: string, { exchange: more = {}, person = createPerson(server) } = {}) {
  const { exchange } = await obtainCode(person, app, { scope })
  return (await post(server, '/token', { ...exchange, ...more }, { key })).body
}

for (const [scope, audience] of [
  ['read', api],
  ['audit', other],
  ['read write', api],
  ['read unknown', api],
] as const) {
  test(`takes the API of the scopes "${scope}"`, async (t) => {
    const { body } = await ask(await server.addClient(service), { scope })
    t.is(decodeJwt(body.access_token).aud, audience)
    t.is(body.scope, scope.replace(' unknown', ''))
  })
}

for (const scope of ['write', 'read audit', 'unknown']) {
  test(`rejects the scopes "${scope}", which no single API has`, async (t) => {
    const { status, body } = await ask(await server.addClient(service), { scope })
    t.is(status, 400)
    t.is(body.error, 'invalid_scope')
  })
}

test('uses the default API and scopes of a client', async (t) => {
  const client = await server.addClient({
    ...service,
    default_resource: other,
    default_scope: 'write',
  })
  const { body } = await ask(client, {})
  t.like(decodeJwt(body.access_token), { aud: other, scope: 'write' })
  t.is(decodeJwt((await ask(client, { resource: api })).body.access_token).aud, api)
})

test('rejects a default API that is not registered', async (t) => {
  const client = await server.addClient({ ...service, default_resource: 'https://no.example' })
  t.is((await ask(client, {})).body.error, 'invalid_target')
})

for (const changes of [
  { default_resource: '/api' },
  { default_resource: 'https://api.example.com/#x' },
  { default_scope: 'read\twrite' },
  { default_scope: 'openid email', scope: 'openid' },
]) {
  test(`registers no client with ${JSON.stringify(changes)}`, async (t) => {
    await t.throwsAsync(server.addClient(changes), { message: /default_/ })
  })
}

test('gives a sign-in a token for userinfo, and for the API of its scopes by name', async (t) => {
  const { access_token } = await signIn('openid read')
  t.false(access_token.includes('.'))
  const named = await signIn('openid read', { exchange: { resource: api } })
  t.like(decodeJwt(named.access_token), { aud: api, scope: 'read' })
})

test('gives a request without openid a token for the API of its scopes', async (t) => {
  t.like(decodeJwt((await signIn('read')).access_token), { aud: api, scope: 'read' })
})

test('gives a sign-in the default scopes and API of its client', async (t) => {
  const defaults = { default_resource: api, default_scope: 'openid read' }
  const client = await server.addClient(defaults)
  const { authorize } = createPerson(server)
  const verifier = { code_challenge: 'x'.repeat(43), code_challenge_method: 'S256' }
  const asked = { client_id: client.client_id, response_type: 'code', ...verifier }
  const { searchParams } = await authorize({ ...asked, redirect_uri: 'http://127.0.0.1/callback' })
  t.truthy(searchParams.get('code'), searchParams.get('error') ?? '')
})

test('rejects a sign-in of which no scope is known, and says so', async (t) => {
  const error = await t.throwsAsync(signIn('unknown'))
  t.regex(error?.message ?? '', /error=invalid_scope&error_description=no\+requested/)
})

test('honours offline_access without prompt=consent, once the person has allowed it', async (t) => {
  const person = createPerson(server)
  const first = await signIn('openid offline_access unknown', { person })
  t.is(first.scope, 'openid offline_access')
  const form = { ...refreshing(app, first.refresh_token), scope: 'openid offline_access unknown' }
  const refreshed = await post(server, '/token', form, { key })
  t.is(refreshed.status, 200)
  t.is(refreshed.body.scope, 'openid offline_access')
})

test('honours offline_access with prompt=none only once it was granted', async (t) => {
  const [person, client] = [createPerson(server), await webApp()]
  await obtainCode(person, client, { redirect_uri, scope: 'openid' })
  const asked = { redirect_uri, scope: 'openid offline_access', prompt: 'none' }
  const scopeOf = async (parameters: Record<string, string>) => {
    const { exchange } = await obtainCode(person, client, parameters)
    return (await post(server, '/token', exchange, { key })).body.scope
  }
  t.is(await scopeOf(asked), 'openid')
  const { prompt: _, ...once } = asked
  t.is(await scopeOf(once), 'openid offline_access')
  t.is(await scopeOf(asked), 'openid offline_access')
})

test('rejects a request without a scope, unless its client has a default', async (t) => {
  const client = await server.addClient()
  const error = await t.throwsAsync(obtainCode(createPerson(server), client, { scope: '' }))
  t.regex(error?.message ?? '', /error=invalid_scope&error_description=a\+scope\+is\+required/)
})

test('rejects a request for an API of none of whose scopes it asks', async (t) => {
  const client = await server.addClient()
  const asked = { scope: 'unknown', resource: api }
  const error = await t.throwsAsync(obtainCode(createPerson(server), client, asked))
  t.regex(error?.message ?? '', /error=invalid_scope&error_description=no\+requested/)
})

test('refuses a refresh for scopes of the same grant that the token has not', async (t) => {
  const person = createPerson(server)
  await signIn('openid email', { person })
  const { refresh_token } = await signIn('openid', { person })
  const form = { ...refreshing(app, refresh_token), scope: 'openid email' }
  const { body } = await post(server, '/token', form, { key })
  t.is(body.error, 'invalid_scope')
  t.is(body.scope, 'email')
})

const redirect_uri = 'https://app.example/callback'
const webApp = () =>
  server.addClient({ ...publicClient, application_type: 'web', redirect_uris: [redirect_uri] })

const firstParty = (changes: RequestedMetadata = {}) =>
  server.addClient({
    ...publicClient,
    application_type: 'web',
    redirect_uris: [redirect_uri],
    skip_consent: true,
    ...changes,
  })

test('signs people in to a client of skip_consent without a page, and records it', async (t) => {
  const [person, client] = [createPerson(server), await firstParty()]
  const asked = { redirect_uri, scope: 'openid email offline_access read' }
  const noPage = { ...asked, prompt: 'none' }
  await obtainCode(person, app, { scope: 'openid' })
  const { exchange } = await obtainCode(person, client, noPage)
  const tokens = await post(server, '/token', { ...exchange, resource: api }, { key })
  t.like(decodeJwt(tokens.body.access_token), { aud: api, scope: 'read' })
  await obtainCode(person, client, noPage)
  await server.flushAudit()
  const events = await server.storage.audit.list({ client: client.client_id, limit: 9 })
  const skipped = events.filter(({ event }) => event === 'consent.skipped')
  t.is(skipped.length, 1)
  t.like(skipped[0]?.details, { resources: [api] })
})

test('asks for consent when a client of skip_consent wants the page, or no longer skips it', async (t) => {
  const [person, client] = [createPerson(server), await firstParty()]
  const asked = { redirect_uri, scope: 'openid', prompt: 'none' }
  await obtainCode(person, app, { scope: 'openid' })
  await obtainCode(person, client, asked)
  const query = new URLSearchParams({
    ...asked,
    prompt: 'consent',
    client_id: client.client_id,
    response_type: 'code',
    code_challenge: 'x'.repeat(43),
    code_challenge_method: 'S256',
  })
  const { html } = await person.browser.visit(`${server.issuer}/authorize?${query}`)
  t.regex(html, />Allow</)
  const { skip_consent: _, ...asking } = client
  await changeClient(client.client_id, asking, {
    table: server.storage.clients,
    validator: server.provider,
  })
  const error = await t.throwsAsync(obtainCode(person, client, asked))
  t.regex(error?.message ?? '', /error=consent_required/)
})

test('grants nothing to a client of skip_consent before the page or the sign-in it wants', async (t) => {
  const [person, client] = [createPerson(server), await firstParty()]
  await obtainCode(person, app, { scope: 'openid' })
  for (const prompt of ['consent', 'login']) {
    const query = new URLSearchParams({
      ...{ redirect_uri, prompt, scope: 'openid', client_id: client.client_id },
      response_type: 'code',
      code_challenge: 'x'.repeat(43),
      code_challenge_method: 'S256',
    })
    const { html } = await person.browser.visit(`${server.issuer}/authorize?${query}`)
    t.regex(html, prompt === 'login' ? />Sign in</ : />Allow</)
  }
  await server.flushAudit()
  const events = await server.storage.audit.list({ client: client.client_id, limit: 9 })
  t.false(events.some(({ event }) => event === 'consent.skipped'))
})

test('asks for consent to a client of skip_consent on another device', async (t) => {
  const grants = ['authorization_code', deviceGrant]
  const client = await firstParty({ grant_types: grants })
  const person = createPerson(server)
  const { body } = await askForCode(server, client, { key })
  const confirm = await typeCode(server, person, body.user_code)
  const signIn = await person.browser.submit(confirm, 'Continue', { confirm: 'yes' })
  const { html } = await person.browser.submit(signIn, 'Sign in', { email, password })
  t.regex(html, />Allow</)
})

test('refuses skip_consent for native apps, this machine and clients that registered themselves', (t) => {
  const asked = { ...publicClient, application_type: 'web', redirect_uris: [redirect_uri] }
  for (const changes of [
    { application_type: 'native' },
    { redirect_uris: [redirect_uri, 'https://localhost/callback'] },
    { redirect_uris: [redirect_uri, 'https://127.0.0.1/callback'] },
    { self_registered: true },
    { skip_consent: 'yes' },
  ]) {
    const metadata = { ...asked, skip_consent: true, ...changes } as unknown as RequestedMetadata
    t.throws(() => prepareClient(metadata, server.provider), { message: /skip_consent/ })
  }
  const fine = { ...asked, skip_consent: true } as RequestedMetadata
  t.notThrows(() => prepareClient(fine, server.provider))
})
