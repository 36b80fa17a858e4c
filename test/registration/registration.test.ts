import { generateKeyPairSync, hash } from 'node:crypto'
import type { VerifyError } from '@holdfast/verify'
import test from 'ava'
import { decodeJwt, exportJWK } from 'jose'
import {
  changeClient,
  prepareClient,
  RegistrationError,
} from '../../src/clients/client-registration.ts'
import { matchesSecret } from '../../src/clients/client-secret.ts'
import {
  applyPolicy,
  defaultPolicy,
  registrableMetadata,
} from '../../src/clients/registration-policy.ts'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import { freePort } from '../../src/net/free-port.ts'
import { createRegistrationCredentials } from '../../src/registration/registration-credential.ts'
import { openDatabase } from '../../src/storage/database.ts'
import { createBrowser } from '../support/browser.ts'
import { approve, askForCode, deviceEnvironment, deviceGrant } from '../support/device-flow.ts'
import {
  type Answer,
  basic,
  createPerson,
  newKey,
  obtainCode,
  post,
  refreshing,
} from '../support/flow.ts'
import { initialToken, register, thumbprint, webClient } from '../support/registration.ts'
import {
  api,
  email,
  password,
  startTestServer,
  type TestServer,
  useTestServer,
} from '../support/server.ts'

const server = useTestServer(test, { HOLDFAST_REGISTRATION: 'on', ...deviceEnvironment })
const closed = useTestServer(test)

interface Registered {
  readonly key: KeyPair
  readonly client: string
  readonly token: string
  readonly secret: string | undefined
  // biome-ignore lint/suspicious/noExplicitAny: JSON of any shape, which the tests take apart
  readonly body: any
}

async function registered(metadata: object = webClient, policy = {}): Promise<Registered> {
  const key = await newKey()
  const token = await initialToken(server, policy)
  const { status, body } = await register(server, { token, key, body: metadata })
  if (status !== 201) throw new Error(JSON.stringify(body))
  return {
    key,
    body,
    client: body.client_id,
    token: body.registration_access_token,
    secret: body.client_secret,
  }
}

async function metadataOf({ issuer }: TestServer) {
  const response = await fetch(`${issuer}/.well-known/openid-configuration`)
  return (await response.json()) as Record<string, unknown>
}

test('rejects a body that repeats a member or is nested too deep', async (t) => {
  const [key, token] = [await newKey(), await initialToken(server)]
  const nested = `${'['.repeat(40)}${']'.repeat(40)}`
  for (const more of ['"client_name":"Other"', `"contacts":${nested}`]) {
    const body = `${JSON.stringify(webClient).slice(0, -1)},${more}}`
    const answer = await register(server, { token, key, body })
    t.is(answer.status, 400)
    t.is(answer.body.error, 'invalid_client_metadata')
    t.regex(answer.body.error_description, /names each member once/)
  }
})

test('rejects a client key of RSA whose exponent is weak', async (t) => {
  const { n } = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({
    format: 'jwk',
  })
  for (const [e, status] of [
    ['AQ', 400],
    ['Aw', 400],
    ['AQAB', 201],
  ] as const) {
    const [key, token] = [await newKey(), await initialToken(server)]
    const metadata = {
      ...webClient,
      token_endpoint_auth_method: 'private_key_jwt',
      jwks: { keys: [{ kty: 'RSA', n, e }] },
    }
    const answer = await register(server, { token, key, body: metadata })
    t.is(answer.status, status, JSON.stringify(answer.body))
  }
})

test('rejects a misleading name, of a new client and of one that changes', async (t) => {
  const { client, token, key } = await registered()
  const initial = await initialToken(server)
  for (const client_name of [
    '\u200b',
    'Shop\u202e',
    'Your\u00adBank',
    '\u3164',
    'x'.repeat(10_240),
  ]) {
    const named = { ...webClient, client_name }
    const change = { method: 'PUT', client, token, key, body: { ...named, client_id: client } }
    for (const call of [{ token: initial, key, body: named }, change]) {
      const { status, body } = await register(server, call)
      t.is(status, 400, client_name)
      t.is(body.error, 'invalid_client_metadata')
      t.regex(body.error_description, /client_name must (?:not )?be/)
    }
  }
  t.is((await stored(client))?.client_name, webClient.client_name)
})

const stored = (id: string) => server.storage.clients.find(id)

test('without the setting there is no endpoint, and the metadata names none', async (t) => {
  const token = await initialToken(closed)
  const { status } = await register(closed, { token, key: await newKey(), body: webClient })
  t.is(status, 404)
  t.false('registration_endpoint' in (await metadataOf(closed)))
})

test('the metadata names the endpoint', async (t) => {
  t.like(await metadataOf(server), { registration_endpoint: `${server.issuer}/register` })
})

test('a client registers itself, and its secret is shown once', async (t) => {
  const asked = { ...webClient, logo_uri: 'https://shop.example/logo.png' }
  const { body, client, key, token } = await registered(asked)
  // It is not shown, and the client learns that.
  t.false('logo_uri' in body)
  t.like(body, {
    client_name: 'Shop',
    redirect_uris: webClient.redirect_uris,
    grant_types: ['authorization_code'],
    response_types: ['code'],
    binding_method: 'dpop',
    dpop_bound_access_tokens: true,
    scope: 'openid offline_access profile email',
    client_secret_expires_at: 0,
    registration_client_uri: `${server.issuer}/register/${client}`,
  })
  t.regex(body.client_secret, /^[\w-]{43}$/)
  t.true(Math.abs(body.client_id_issued_at - Date.now() / 1000) < 60)
  t.false('self_registered' in body)
  const read = await register(server, { client, token, key })
  t.is(read.status, 200)
  t.is(read.headers.get('cache-control'), 'no-store')
  const { client_secret: _, client_secret_expires_at: __, ...shown } = body
  t.deepEqual(read.body, shown)
})

test('the secret, the tokens and their proofs are nowhere in clear', async (t) => {
  const { client, token, secret = '' } = await registered()
  const metadata = await stored(client)
  t.regex(metadata?.client_secret ?? '', /^sha256:/)
  t.true(metadata?.self_registered)
  const logged = server.logged.join('')
  t.false(logged.includes(token))
  t.false(logged.includes(secret))
})

test('a client that registered itself signs people in', async (t) => {
  const { body } = await registered({
    application_type: 'native',
    redirect_uris: [redirect_uri],
    token_endpoint_auth_method: 'none',
  })
  const { exchange } = await obtainCode(createPerson(server), body, { redirect_uri })
  const tokens = await post(server, '/token', exchange, { key: await newKey() })
  t.is(tokens.status, 200)
  t.is(tokens.body.token_type, 'DPoP')
})

test('warns on the consent page that nobody has checked such a client', async (t) => {
  const redirect_uri = 'https://shop.example/callback'
  const { body } = await registered({ ...webClient, client_name: 'Your Bank' })
  const browser = createBrowser()
  const parameters = new URLSearchParams({
    client_id: body.client_id,
    response_type: 'code',
    redirect_uri,
    scope: 'openid',
    code_challenge: 'x'.repeat(43),
    code_challenge_method: 'S256',
  })
  const url = `${server.issuer}/authorize?${parameters}`
  const signIn = await browser.visit(url, { until: redirect_uri })
  const credentials = { email, password }
  const { html } = await browser.submit(signIn, 'Sign in', credentials, { until: redirect_uri })
  t.regex(html, /Your Bank/)
  t.regex(html, /class="warning"><strong>Not checked/)
})

test('a client that registered itself authenticates by its secret', async (t) => {
  const { body } = await registered(
    { grant_types: ['client_credentials'] },
    { grantTypes: ['client_credentials'] },
  )
  const asking = { grant_type: 'client_credentials' }
  const options = { key: await newKey(), headers: basic(body) }
  t.is((await post(server, '/token', asking, options)).status, 200)
})

const redirect_uri = 'http://127.0.0.1/callback'

/** A client of every grant whose registration names these scopes. */
async function registeredFor(scope: string) {
  const grants = ['authorization_code', 'refresh_token', 'client_credentials', deviceGrant]
  return registered(
    { application_type: 'native', redirect_uris: [redirect_uri], grant_types: grants, scope },
    { grantTypes: grants, scopes: ['openid', 'offline_access', 'read', 'write'] },
  )
}

/** Each asks for everything, and answers with the token response or with the refusal. */
type Asking = (client: Registered, target: Record<string, string>) => Promise<Answer>

const everything = 'openid read write'

/** The error page that an authorization request gets, if it gets one. */
async function refusedAtOnce(
  { client_id }: Registered['body'],
  asked: Record<string, string>,
): Promise<Answer | undefined> {
  const pkce = { code_challenge: 'x'.repeat(43), code_challenge_method: 'S256' }
  const query = new URLSearchParams({ client_id, response_type: 'code', ...pkce, ...asked })
  const url = `${server.issuer}/authorize?${query}`
  const response = await fetch(url, { redirect: 'manual' })
  const { status, headers } = response
  return status === 400 ? { status, headers, body: await response.text() } : undefined
}

const grants: Readonly<Record<string, Asking>> = {
  async 'a code'({ body, key }, target) {
    const asked = { redirect_uri, scope: everything, ...target }
    const refused = await refusedAtOnce(body, asked)
    if (refused) return refused
    const { exchange } = await obtainCode(createPerson(server), body, asked)
    return post(server, '/token', { ...exchange, ...target }, { key, headers: basic(body) })
  },
  async 'a pushed request'({ body, key }, target) {
    const verifier = 'v'.repeat(43)
    const pushed = await post(
      server,
      '/par',
      {
        client_id: body.client_id,
        response_type: 'code',
        redirect_uri,
        scope: everything,
        code_challenge: hash('sha256', verifier, 'base64url'),
        code_challenge_method: 'S256',
        ...target,
      },
      { headers: basic(body) },
    )
    if (pushed.status !== 201) return pushed
    const { client_id } = body
    const asked = { client_id, request_uri: pushed.body.request_uri }
    const { searchParams } = await createPerson(server).authorize(asked)
    const form = { grant_type: 'authorization_code', redirect_uri, code_verifier: verifier }
    const code = searchParams.get('code') ?? ''
    return post(server, '/token', { ...form, code, ...target }, { key, headers: basic(body) })
  },
  async 'a refresh'(client, target) {
    const first = await grants['a code']?.(client, target)
    if (!first?.body.refresh_token) return first as Answer
    const form = refreshing(client.body, first.body.refresh_token)
    const by = { key: client.key, headers: basic(client.body) }
    return post(server, '/token', { ...form, ...target }, by)
  },
  async 'a device code'({ body, key }, target) {
    const by = { key, headers: basic(body) }
    const asked = await askForCode(server, body, by, { scope: everything, ...target })
    if (asked.status !== 200) return asked
    await approve(server, createPerson(server), asked.body.user_code)
    const { device_code } = asked.body
    return post(server, '/token', { grant_type: deviceGrant, device_code, ...target }, by)
  },
  async client_credentials({ body, key }, target) {
    const form = { grant_type: 'client_credentials', scope: everything, ...target }
    return post(server, '/token', form, { key, headers: basic(body) })
  },
}

for (const [grant, ask] of Object.entries(grants)) {
  test(`limits ${grant} of a self-registered client to the scopes of its registration`, async (t) => {
    const client = await registeredFor('openid read')
    const { status, body } = await ask(client, { resource: api })
    t.is(status, 200, JSON.stringify(body))
    t.like(decodeJwt(body.access_token), { aud: api, scope: 'read' })
    t.false((await ask(client, {})).body.scope.includes('write'))
  })

  test(`rejects ${grant} of a self-registered client for an API of none of its scopes`, async (t) => {
    const client = await registeredFor('openid offline_access')
    const refused = await ask(client, { resource: api })
    t.is(refused.status, 400)
    t.regex(JSON.stringify(refused.body), /invalid_target/)
    t.is((await ask(client, {})).body.scope, 'openid')
  })
}

test('gives no API to a client that registered before registrations named scopes of APIs', async (t) => {
  const { client, ...rest } = await registeredFor('openid read')
  const { resource_scopes: _, ...before } = (await stored(client)) ?? { client_id: client }
  await server.storage.clients.remove(client)
  await server.storage.clients.insert(before)
  const old = { ...rest, client }
  const { body } = (await grants.client_credentials?.(old, { resource: api })) ?? {}
  t.is(body.error, 'invalid_target')
  const changed = { ...before, resource_scopes: 'write', client_secret: undefined }
  await changeClient(client, changed, { table: server.storage.clients, validator: server.provider })
  const { body: mended } = (await grants.client_credentials?.(old, { resource: api })) ?? {}
  t.is(mended.scope, 'write')
})

test('gives a client that registered scopes of APIs alone none of this server', async (t) => {
  const client = await registeredFor('read')
  const asked = { redirect_uri, resource: api, scope: 'read email' }
  t.regex((await refusedAtOnce(client.body, asked))?.body, /invalid_scope/)
  const { body } = (await grants.client_credentials?.(client, { resource: api })) ?? {}
  t.is(body.error, 'invalid_scope')
})

test('gives a client that registered itself openid alone once an administrator leaves it no scope', async (t) => {
  const { client, body, key } = await registeredFor('openid read')
  const {
    scope: _,
    resource_scopes: __,
    ...others
  } = (await stored(client)) ?? {
    client_id: client,
  }
  const tables = { table: server.storage.clients, validator: server.provider }
  await changeClient(client, { ...others, client_secret: undefined }, tables)
  t.true((await stored(client))?.self_registered)
  const by = { key, headers: basic(body) }
  for (const other of ['email', 'profile', 'address', 'offline_access']) {
    const scope = `openid ${other}`
    t.regex((await refusedAtOnce(body, { redirect_uri, scope }))?.body, /invalid_scope/, other)
    t.is((await askForCode(server, body, by, { scope })).body.error, 'invalid_scope', other)
  }
  const asking = (claims: object) =>
    refusedAtOnce(body, { redirect_uri, scope: 'openid', claims: JSON.stringify(claims) })
  for (const claims of [{ userinfo: { email: null } }, { id_token: { phone_number: null } }]) {
    t.regex((await asking(claims))?.body, /invalid_scope/)
  }
  t.is(await asking({ id_token: { acr: null, sub: null } }), undefined)
  const form = { grant_type: 'client_credentials', scope: 'openid email' }
  t.is((await post(server, '/token', form, by)).body.error, 'invalid_scope')
  const ofApi = { grant_type: 'client_credentials', scope: 'read', resource: api }
  t.is((await post(server, '/token', ofApi, by)).body.error, 'invalid_target')
})

test('shows the scopes of a registration as one member, and changes them', async (t) => {
  const { body, client, key, token } = await registeredFor('read openid')
  t.is(body.scope, 'openid read')
  t.false('resource_scopes' in body)
  t.like(await stored(client), { scope: 'openid', resource_scopes: 'read' })
  const { client_id, redirect_uris, application_type } = body
  const change = { client_id, redirect_uris, application_type, scope: 'write' }
  const changed = await register(server, { method: 'PUT', client, token, key, body: change })
  t.is(changed.body.scope, 'write')
  const beyond = { ...change, scope: 'openid email' }
  const refused = await register(server, { method: 'PUT', client, token, key, body: beyond })
  t.is(refused.body.error, 'invalid_client_metadata')
})

test('makes no initial token for a scope that neither this server nor an API has', async (t) => {
  await t.throwsAsync(initialToken(server, { scopes: ['openid', 'mcp:tools'] }), {
    message: /^mcp:tools is not a scope of this server or of a registered API/,
  })
})

test('shows a client that registered itself no tokens of others', async (t) => {
  const { body } = await registered()
  const other = await server.addClient()
  const { exchange } = await obtainCode(createPerson(server), other)
  const tokens = await post(server, '/token', exchange, { key: await newKey() })
  const introspected = await post(
    server,
    '/introspect',
    { token: tokens.body.access_token },
    { headers: basic(body) },
  )
  t.deepEqual(introspected.body, { active: false })
})

test('registers a bearer client that names no binding by a conformant token alone', async (t) => {
  const token = await initialToken(server, { conformant: true, uses: 4 })
  const tos_uri = 'https://terms.example/'
  const { status, body } = await register(server, { token, body: { ...webClient, tos_uri } })
  t.is(status, 201)
  t.like(body, {
    tos_uri,
    scope: 'openid offline_access profile email address phone',
    binding_method: 'bearer',
    grant_types: ['authorization_code'],
    response_types: ['code'],
    token_endpoint_auth_method: 'client_secret_basic',
    id_token_signed_response_alg: 'RS256',
    application_type: 'web',
    // OpenID Connect has no PKCE, and a nonce for the front channel alone.
    require_pkce: false,
    require_nonce: false,
    redirect_errors: true,
  })
  const [redirect_uri] = body.redirect_uris
  const silent = { client_id: body.client_id, redirect_uri, prompt: 'none', scope: 'openid' }
  const asked = { ...silent, response_type: 'code' }
  t.is((await createPerson(server).authorize(asked)).searchParams.get('error'), 'login_required')
  const bound = { ...webClient, dpop_bound_access_tokens: true }
  t.is((await register(server, { token, body: bound })).body.binding_method, 'dpop')
  const mine = { client: body.client_id, token: body.registration_access_token }
  const provided = /^(registration_|client_secret_expires_at|client_id_issued_at)/
  const own = Object.fromEntries(Object.entries(body).filter(([name]) => !provided.test(name)))
  const change = { ...mine, method: 'PUT', body: own }
  t.like((await register(server, change)).body, { binding_method: 'bearer', require_pkce: false })
  const stricter = { ...change, body: { ...own, require_pkce: true, require_nonce: undefined } }
  t.is((await register(server, stricter)).body.require_pkce, true)
  const signing = { ...webClient, token_endpoint_auth_method: 'private_key_jwt' }
  const signed = { ...signing, jwks: { keys: [await exportJWK((await newKey()).publicKey)] } }
  t.like((await register(server, { token, body: signed })).body, { endpoint_audience: true })
  const open = { ...webClient, token_endpoint_auth_method: 'none' }
  t.false('require_pkce' in (await register(server, { token, body: open })).body)
  t.is((await registered()).body.binding_method, 'dpop')
  await t.throwsAsync(initialToken(server, { conformant: true, bindingMethods: ['dpop'] }), {
    message: /needs the binding bearer/,
  })
})

test('lets scripts of every origin register, without cookies', async (t) => {
  const headers = { origin: 'https://app.example' }
  for (const [path, methods] of [
    ['/register', 'POST'],
    ['/register/x', 'GET,PUT,DELETE'],
  ] as const) {
    const { status, headers: allowed } = await fetch(server.issuer + path, {
      method: 'OPTIONS',
      headers: { ...headers, 'access-control-request-method': 'POST' },
    })
    t.is(status, 204)
    t.is(allowed.get('access-control-allow-origin'), '*')
    t.is(allowed.get('access-control-allow-methods'), methods)
    t.is(allowed.get('access-control-allow-credentials'), null)
  }
  const [key, token] = [await newKey(), await initialToken(server)]
  const made = await register(server, { token, key, headers, body: webClient })
  t.is(made.status, 201)
  t.is(made.headers.get('access-control-allow-origin'), '*')
})

test('nobody registers without a token', async (t) => {
  const { status, headers, body } = await register(server, { body: webClient })
  t.is(status, 401)
  t.is(body.error, 'invalid_token')
  t.regex(headers.get('www-authenticate') ?? '', /DPoP/)
})

test('nobody registers with a token that is not known', async (t) => {
  const { status, body } = await register(server, {
    token: 'made-up',
    key: await newKey(),
    body: webClient,
  })
  t.is(status, 401)
  t.is(body.error, 'invalid_token')
})

test('nobody registers with a token that has expired', async (t) => {
  const token = await initialToken(server, { name: 'expired' })
  await using database = await openDatabase(server.databaseUrl, { onError: () => {} })
  await database.query({
    text: `update initial_access_tokens set expires_at = now() where name = 'expired'`,
  })
  const { status, body } = await register(server, { token, key: await newKey(), body: webClient })
  t.is(status, 401)
  t.is(body.error, 'invalid_token')
})

test('a token is used up by its uses', async (t) => {
  const token = await initialToken(server, { uses: 2 })
  const key = await newKey()
  const statuses: number[] = []
  for (let use = 0; use < 3; use += 1) {
    statuses.push((await register(server, { token, key, body: webClient })).status)
  }
  t.deepEqual(statuses, [201, 201, 401])
})

test('sixteen concurrent uses of one token: one client', async (t) => {
  const token = await initialToken(server, { name: 'race' })
  const key = await newKey()
  const answers = await Promise.all(
    Array.from({ length: 16 }, () =>
      register(server, { token, key, body: { ...webClient, client_name: 'Race' } }),
    ),
  )
  t.is(answers.filter(({ status }) => status === 201).length, 1)
  t.is(answers.filter(({ status }) => status === 401).length, 15)
  const clients = await server.storage.clients.list()
  t.is(clients.filter(({ metadata }) => metadata.client_name === 'Race').length, 1)
})

test('a request that is refused uses nothing up', async (t) => {
  const token = await initialToken(server)
  const key = await newKey()
  const wrong = await register(server, {
    token,
    key,
    body: { redirect_uris: ['http://a.example'] },
  })
  t.is(wrong.status, 400)
  t.is(wrong.body.error, 'invalid_redirect_uri')
  t.is((await register(server, { token, key, body: webClient })).status, 201)
})

test('an initial token is refused without a proof', async (t) => {
  const token = await initialToken(server)
  const { status, body } = await register(server, { token, body: webClient })
  t.is(status, 401)
  t.is(body.error, 'invalid_token')
})

test('an initial token for one key is refused with another', async (t) => {
  const key = await newKey()
  const token = await initialToken(server, { jkt: await thumbprint(key) })
  const thief = await register(server, { token, key: await newKey(), body: webClient })
  t.is(thief.status, 401)
  t.is(thief.body.error, 'invalid_token')
  t.is((await register(server, { token, key, body: webClient })).status, 201)
})

test('where an administrator says so, tokens are bearer tokens', async (t) => {
  const token = await initialToken(server, { bearer: true })
  const { status, body } = await register(server, { token, body: webClient })
  t.is(status, 201)
  const read = await register(server, {
    client: body.client_id,
    token: body.registration_access_token,
  })
  t.is(read.status, 200)
})

test('who registers with a key is bound to it, wherever bearer tokens may be', async (t) => {
  const { client, token } = await registered(webClient, { bearer: true })
  t.is((await register(server, { client, token })).status, 401)
})

test('a stolen registration token is refused without its key', async (t) => {
  const { client, token, key } = await registered()
  const asBearer = await register(server, { client, token })
  t.is(asBearer.status, 401)
  t.is(asBearer.body.error, 'invalid_token')
  for (const method of ['GET', 'PUT', 'DELETE']) {
    const thief = await register(server, { method, client, token, key: await newKey() })
    t.is(thief.status, 401)
  }
  t.is((await register(server, { client, token, key })).status, 200)
})

test('a proof is good once, for its method and its address', async (t) => {
  const { client, token, key } = await registered()
  const other = await registered()
  const url = `${server.issuer}/register/${client}`
  const proof = await makeProof(key, { method: 'GET', url, accessToken: token })
  t.is((await register(server, { client, token, proof })).status, 200)
  const replayed = await register(server, { client, token, proof })
  t.is(replayed.status, 401)
  t.is(replayed.body.error, 'invalid_dpop_proof')
  for (const [method, path, accessToken] of [
    ['DELETE', client, token],
    ['GET', other.client, token],
    ['GET', client, other.token],
  ] as const) {
    const wrong = await makeProof(key, {
      method,
      url: `${server.issuer}/register/${path}`,
      accessToken,
    })
    const refused = await register(server, { client, token, proof: wrong })
    t.is(refused.body.error, 'invalid_dpop_proof')
  }
})

test('below an issuer with a path, addresses and proofs have that path', async (t) => {
  const port = String(await freePort())
  await using below = await startTestServer({
    HOLDFAST_REGISTRATION: 'on',
    HOLDFAST_PORT: port,
    HOLDFAST_ISSUER: `http://localhost:${port}/tenants/one`,
  })
  const key = await newKey()
  const token = await initialToken(below)
  const { status, body } = await register(below, { token, key, body: webClient })
  t.is(status, 201)
  t.is(body.registration_client_uri, `${below.issuer}/register/${body.client_id}`)
  const mine = { client: body.client_id, token: body.registration_access_token, key }
  t.is((await register(below, mine)).status, 200)
  t.like(await metadataOf(below), { registration_endpoint: `${below.issuer}/register` })
})

test('a registration token is for its own client', async (t) => {
  const initial = await initialToken(server, { uses: 2 })
  const key = await newKey()
  const [mine, other] = await Promise.all([
    register(server, { token: initial, key, body: webClient }),
    register(server, { token: initial, key, body: webClient }),
  ])
  for (const method of ['GET', 'PUT', 'DELETE']) {
    const { status, body } = await register(server, {
      method,
      client: other.body.client_id,
      token: mine.body.registration_access_token,
      key,
      ...(method === 'PUT' && { body: { ...webClient, client_id: other.body.client_id } }),
    })
    t.is(status, 401)
    t.is(body.error, 'invalid_token')
  }
  t.truthy(await stored(other.body.client_id))
  const { registration_access_token: token } = other.body
  t.is((await register(server, { token, key, body: webClient })).status, 401)
})

test('clients of administrators have no registration token', async (t) => {
  const { client_id } = await server.addClient()
  const { key, token } = await registered()
  t.is((await register(server, { client: client_id, token, key })).status, 401)
})

test('a change replaces all metadata, and keeps the secret', async (t) => {
  const {
    client,
    token,
    key,
    secret = '',
  } = await registered({
    ...webClient,
    contacts: ['ada@example.com'],
  })
  const before = (await stored(client))?.client_secret
  const changed = await register(server, {
    method: 'PUT',
    client,
    token,
    key,
    body: { ...webClient, client_id: client, client_secret: secret, client_name: 'New' },
  })
  t.is(changed.status, 200)
  t.is(changed.body.client_name, 'New')
  t.false('contacts' in changed.body)
  t.false('client_secret' in changed.body)
  t.is(changed.body.registration_access_token, token)
  const after = await stored(client)
  t.is(after?.client_secret, before)
  t.is(after?.client_name, 'New')
  t.true(after?.self_registered)
  t.is(after?.client_id_issued_at, changed.body.client_id_issued_at)
})

test('a client that begins to authenticate by a secret gets one, once', async (t) => {
  const { client, token, key, secret } = await registered({
    ...webClient,
    token_endpoint_auth_method: 'none',
  })
  t.is(secret, undefined)
  const body = { ...webClient, client_id: client }
  const change = () => register(server, { method: 'PUT', client, token, key, body })
  const answers = await Promise.all(Array.from({ length: 8 }, change))
  t.deepEqual([...new Set(answers.map(({ status }) => status))], [200])
  const shown = answers.flatMap(({ body }) => body.client_secret ?? [])
  t.is(shown.length, 1)
  t.true(matchesSecret(shown[0], (await stored(client))?.client_secret))
})

const machine = { grant_types: ['client_credentials'], redirect_uris: [] }

test('a client that gives its secret up gets another one, and the one before ends', async (t) => {
  const policy = { grantTypes: ['client_credentials' as const] }
  const { client, token, key, body: first } = await registered(machine, policy)
  const authenticates = async (client_secret: string) => {
    const asking = { grant_type: 'client_credentials' }
    const headers = basic({ client_id: client, client_secret })
    return (await post(server, '/token', asking, { key, headers })).status
  }
  t.is(await authenticates(first.client_secret), 200)
  const body = { ...machine, client_id: client, client_secret: null }
  const renewed = await register(server, { method: 'PUT', client, token, key, body })
  t.is(renewed.status, 200)
  t.is(renewed.body.client_secret_expires_at, 0)
  t.not(renewed.body.client_secret, first.client_secret)
  t.is(await authenticates(renewed.body.client_secret), 200)
  t.is(await authenticates(first.client_secret), 401)
  await server.flushAudit()
  t.like(await server.storage.audit.list({ event: 'client.changed', client, limit: 9 }), [
    { actor: 'dynamic registration', details: { new_secret: true } },
  ])
})

test('of eight that give a secret up at once, one has the one that is good', async (t) => {
  const { client, token, key } = await registered()
  const body = { ...webClient, client_id: client, client_secret: null }
  const answers = await Promise.all(
    Array.from({ length: 8 }, () => register(server, { method: 'PUT', client, token, key, body })),
  )
  const secrets = answers.map(({ body }) => body.client_secret)
  t.is(new Set(secrets).size, 8)
  const metadata = await stored(client)
  t.is(secrets.filter((secret) => matchesSecret(secret, metadata?.client_secret)).length, 1)
})

test('renews no secret without the key of the registration', async (t) => {
  const { client, token } = await registered()
  const before = await stored(client)
  const body = { ...webClient, client_id: client, client_secret: null }
  const thief = { method: 'PUT', client, token, key: await newKey(), body }
  t.is((await register(server, thief)).status, 401)
  t.deepEqual(await stored(client), before)
})

test('a client without a secret gives none up', async (t) => {
  const metadata = { ...webClient, token_endpoint_auth_method: 'none' }
  const { client, token, key } = await registered(metadata)
  const body = { ...metadata, client_id: client, client_secret: null }
  const answer = await register(server, { method: 'PUT', client, token, key, body })
  t.is(answer.status, 200)
  t.false('client_secret' in answer.body)
})

test('a client that no longer authenticates by a secret has none', async (t) => {
  const { client, token, key } = await registered()
  const body = { ...webClient, client_id: client, token_endpoint_auth_method: 'none' }
  t.is((await register(server, { method: 'PUT', client, token, key, body })).status, 200)
  t.false('client_secret' in ((await stored(client)) ?? {}))
})

for (const [title, changes] of [
  ['to bearer tokens', { binding_method: 'bearer' }],
  ['to another client_id', { client_id: 'first-app' }],
  ['to no client_id', { client_id: undefined }],
  ['to a secret of its own', { client_secret: 'a secret of my own choosing' }],
  ['to no secret', { client_secret: '' }],
  ['to administration', { administration: 'write' }],
  ['of the rules of sessions', { session_policy: { federation: true } }],
  ['of where it came from', { self_registered: false }],
  ['of its token', { registration_access_token: 'mine' }],
  ['to logouts of another host', { backchannel_logout_uri: 'https://other.example/logout' }],
  ['of its address', { registration_client_uri: 'https://a.example' }],
  ['of when it came', { client_id_issued_at: 1 }],
  ['of when its secret ends', { client_secret_expires_at: 1 }],
  ['to another grant', { grant_types: ['client_credentials'], redirect_uris: [] }],
] as const) {
  test(`refuses a change ${title}`, async (t) => {
    const { client, token, key } = await registered()
    const before = await stored(client)
    const body = { ...webClient, client_id: client, ...changes }
    const { status, body: answer } = await register(server, {
      method: 'PUT',
      client,
      token,
      key,
      body,
    })
    t.is(status, 400)
    t.is(answer.error, 'invalid_client_metadata')
    t.deepEqual(await stored(client), before)
  })
}

test('what is stored of a secret does not pass for it', async (t) => {
  const { client, token, key } = await registered()
  const client_secret = (await stored(client))?.client_secret
  const body = { ...webClient, client_id: client, client_secret }
  t.is((await register(server, { method: 'PUT', client, token, key, body })).status, 400)
})

test('the policy stays when the token it came with is gone', async (t) => {
  const { client, token, key } = await registered(webClient, { name: 'gone' })
  const list = await server.storage.registrations.listInitialTokens()
  const { id = '' } = list.find(({ name }) => name === 'gone') ?? {}
  t.is(await server.storage.registrations.removeInitialToken(id), 'gone')
  const body = { ...webClient, client_id: client }
  const change = (more: object) =>
    register(server, { method: 'PUT', client, token, key, body: { ...body, ...more } })
  t.is((await change({ binding_method: 'bearer' })).status, 400)
  t.is((await change({})).status, 200)
})

test('a client removes itself, and its tokens stop', async (t) => {
  const grants = ['authorization_code', 'client_credentials']
  const {
    client,
    token,
    key,
    body: made,
  } = await registered({ ...webClient, grant_types: grants }, { grantTypes: grants })
  const other = await server.addClient({ token_endpoint_auth_method: 'client_secret_basic' })
  const by = { key, headers: basic(made) }
  const issued = (await post(server, '/token', { grant_type: 'client_credentials' }, by)).body
  const isActive = async () =>
    (await post(server, '/introspect', { token: issued.access_token }, { headers: basic(other) }))
      .body.active
  t.true(await isActive())
  const removed = await register(server, { method: 'DELETE', client, token, key })
  t.is(removed.status, 204)
  t.false(await isActive())
  t.is(await stored(client), undefined)
  t.is((await register(server, { client, token, key })).status, 401)
  const body = { ...webClient, client_id: client }
  t.is((await register(server, { method: 'PUT', client, token, key, body })).status, 401)
})

test('a client that an administrator removes has no registration token any more', async (t) => {
  const { client, token, key } = await registered()
  t.true(await server.storage.clients.remove(client))
  t.is((await register(server, { client, token, key })).status, 401)
})

test('a change does not bring back a client that is removed at the same time', async (t) => {
  for (let round = 0; round < 5; round += 1) {
    const { client, token, key } = await registered()
    const body = { ...webClient, client_id: client }
    const [changed, removed] = await Promise.all([
      register(server, { method: 'PUT', client, token, key, body }),
      register(server, { method: 'DELETE', client, token, key }),
    ])
    t.true([200, 401].includes(changed.status))
    t.is(removed.status, 204)
    t.is(await stored(client), undefined)
  }
})

test('registration, change and removal are in the audit trail', async (t) => {
  const { client, token, key } = await registered(webClient, { name: 'audited' })
  const body = { ...webClient, client_id: client }
  await register(server, { method: 'PUT', client, token, key, body })
  await register(server, { method: 'DELETE', client, token, key })
  await server.flushAudit()
  const rows = await server.storage.audit.list({ client, limit: 10 })
  t.deepEqual(
    rows.map(({ event, actor }) => [event, actor]),
    ['added', 'changed', 'removed'].map((change) => [`client.${change}`, 'dynamic registration']),
  )
  t.like(rows[0]?.details, { binding: 'dpop', initial_access_token: { name: 'audited' } })
})

test('refusals are counted', async (t) => {
  await register(server, { token: 'made-up', key: await newKey(), body: webClient })
  const metrics = await (await fetch(`http://${server.operators}/metrics`)).text()
  t.regex(metrics, /holdfast_refusals_total\{endpoint="registration",error="invalid_token"/)
})

for (const [title, status, call] of [
  ['another media type', 415, { body: '{}', headers: { 'content-type': 'text/plain' } }],
  ['a body without end', 413, { body: { client_name: 'x'.repeat(70_000) } }],
] as const) {
  test(`refuses ${title}`, async (t) => {
    const answer = await register(server, {
      token: await initialToken(server),
      key: await newKey(),
      ...call,
    })
    t.is(answer.status, status)
    t.is(answer.body.error, 'invalid_client_metadata')
  })
}

for (const [title, call] of [
  ['a body that is no JSON', { body: '{"redirect_uris":' }],
  ['a list', { body: [] }],
  ['nothing', { body: 'null' }],
  ['U+0000', { body: { ...webClient, client_name: 'a\u0000b' } }],
  ['half a surrogate pair', { body: { ...webClient, contacts: ['a\ud800@example.com'] } }],
  ['a member called __proto__', { body: '{"__proto__":{"redirect_uris":["https://a.example"]}}' }],
] as const) {
  test(`refuses ${title}`, async (t) => {
    const token = await initialToken(server)
    const { status, body } = await register(server, { token, key: await newKey(), ...call })
    t.is(status, 400)
    t.is(body.error, 'invalid_client_metadata')
  })
}

test('whatever a member holds, it is refused or registered', (t) => {
  const odd = [7, true, '', 'x', [], [7], [null], [[]], {}, { keys: 7 }, { keys: [null] }, 'a:b']
  const base = { ...webClient, jwks: { keys: [] } }
  for (const name of registrableMetadata) {
    for (const value of odd) {
      try {
        prepareClient(applyPolicy(defaultPolicy, { ...base, [name]: value }), server.provider)
      } catch (error) {
        t.true(error instanceof RegistrationError, `${name}: ${JSON.stringify(value)}: ${error}`)
      }
    }
  }
})

test('finds no client by U+0000', async (t) => {
  const { token, key } = await registered()
  t.is((await register(server, { client: 'a%00b', token, key })).status, 401)
})

test('two tokens in one request are refused', async (t) => {
  const { client, token, key } = await registered()
  const { status } = await register(server, {
    client,
    token,
    key,
    headers: { authorization: `DPoP ${token}, DPoP ${token}` },
  })
  t.is(status, 400)
})

test('ignores a token in the address', async (t) => {
  const { client, token } = await registered(webClient, { bearer: true })
  t.is((await register(server, { client: `${client}?access_token=${token}` })).status, 401)
})

test.after('none of it was a mistake of ours', (t) => {
  t.deepEqual(
    server.logged.filter((line) => line.includes('"server_error"')),
    [],
  )
})

const credentials = createRegistrationCredentials({
  proofWindow: { pastS: 300, aheadS: 10 },
  nonces: undefined,
  now: () => Math.floor(Date.now() / 1000),
  recordReplay: async () => true,
})
const token = 'Ab-_'.repeat(10).padEnd(43, 'x')

const read = (presented: string, scheme = 'Bearer') =>
  credentials.read({
    method: 'POST',
    uri: 'https://id.example/register',
    rawHeaders: ['Authorization', `${scheme} ${presented}`],
  })

test('reads a token of 43 characters of base64url', (t) => {
  t.deepEqual(read(token), { token, scheme: 'Bearer', proof: undefined })
})

for (const [what, presented] of [
  ['too short', token.slice(1)],
  ['too long', `${token}x`],
  ['of base64', token.replace('-', '+')],
  ['with dots', token.replace('-', '.')],
  ['without end', 'x'.repeat(10_000)],
] as const) {
  for (const scheme of ['Bearer', 'DPoP']) {
    test(`rejects a ${scheme} token that is ${what} before anything is looked up`, (t) => {
      t.like(
        t.throws(() => read(presented, scheme)),
        {
          name: 'VerifyError',
          code: 'token_inactive',
        },
      )
    })
  }
}

for (const [windowS, code] of [
  [60, 'dpop_expired'],
  [300, undefined],
] as const) {
  test(`judges a proof of 61 seconds ago by a window of ${windowS} seconds`, async (t) => {
    const keys = await newKey()
    const made = Math.floor(Date.now() / 1000)
    const { read: readAt } = createRegistrationCredentials({
      nonces: undefined,
      now: () => made + 61,
      proofWindow: { pastS: windowS, aheadS: 10 },
      recordReplay: async () => true,
    })
    const uri = 'https://id.example/register'
    const dpop = await makeProof(keys, { method: 'POST', url: uri, accessToken: token })
    const rawHeaders = ['Authorization', `DPoP ${token}`, 'DPoP', dpop]
    const request = { method: 'POST', uri, rawHeaders }
    if (code === undefined) t.truthy(readAt(request).proof)
    else t.is(t.throws<VerifyError>(() => readAt(request))?.code, code)
  })
}
