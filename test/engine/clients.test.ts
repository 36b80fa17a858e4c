import { generateKeyPairSync, hash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { exportJWK, type JWTPayload, SignJWT } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import {
  changeClient,
  RegistrationError,
  type RequestedMetadata,
} from '../../src/clients/client-registration.ts'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import { createGuardedFetch } from '../../src/net/guarded-fetch.ts'
import { createPerson, newKey, obtainCode, type Person, post, refreshing } from '../support/flow.ts'
import { race } from '../support/lock.ts'
import { query } from '../support/query.ts'
import { initialToken, register, webClient } from '../support/registration.ts'
import { type Node, startSecondNode } from '../support/second-node.ts'
import { api, useTestServer } from '../support/server.ts'

const environment = { HOLDFAST_SECRET: 'a secret of two nodes, which is long enough' }
const server = useTestServer(test, environment)
const redirect_uri = 'https://app.example/callback'

let other: Node
let client: ClientMetadata
let key: KeyPair

test.before(async () => {
  other = await startSecondNode(server, environment)
  key = await newKey()
  client = await server.addClient({
    application_type: 'web',
    redirect_uris: [redirect_uri],
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
    token_endpoint_auth_method: 'private_key_jwt',
    jwks: { keys: [await exportJWK(key.publicKey)] },
  })
})

test.after.always('closes the other node', () => other?.[Symbol.asyncDispose]())

async function newAssertion({ jti = randomUUID() as string, lifetime = 60 } = {}) {
  const assertion = await new SignJWT({ jti })
    .setProtectedHeader({ alg: 'ES256' })
    .setIssuer(client.client_id)
    .setSubject(client.client_id)
    .setAudience(server.issuer)
    .setExpirationTime(`${lifetime}s`)
    .sign(key.privateKey)
  return {
    client_assertion: assertion,
    client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
  }
}

type Assertion = Awaited<ReturnType<typeof newAssertion>>

const service = { grant_type: 'client_credentials' }
const ask = (parameters: Record<string, string>, assertion: Assertion, fetch = globalThis.fetch) =>
  post(server, '/token', { ...parameters, ...assertion }, { key, fetch })

async function newRefreshToken(): Promise<string> {
  const asked = { redirect_uri, scope: 'openid offline_access', prompt: 'consent' }
  const { exchange } = await obtainCode(createPerson(server), client, asked)
  return (await ask(exchange, await newAssertion())).body.refresh_token
}

const refresh = (token: string, assertion: Assertion, fetch?: typeof globalThis.fetch) =>
  ask(refreshing(client, token), assertion, fetch)

test('a client assertion is good once', async (t) => {
  const assertion = await newAssertion()
  t.is((await ask(service, assertion)).status, 200)
  const { status, body } = await ask(service, assertion)
  t.is(status, 401)
  t.is(body.error, 'invalid_client')
})

test('one that is good for a day is refused', async (t) => {
  const { body } = await ask(service, await newAssertion({ lifetime: 86_400 }))
  t.is(body.error, 'invalid_client')
})

test('sixteen concurrent uses of one assertion: one success', async (t) => {
  const assertion = await newAssertion()
  const answers = await Promise.all(Array.from({ length: 16 }, () => ask(service, assertion)))
  t.is(answers.filter(({ status }) => status === 200).length, 1)
  t.is(answers.filter(({ body }) => body.error === 'invalid_client').length, 15)
})

test.serial('of two refreshes with one assertion one is done, at any nodes', async (t) => {
  const tokens = [await newRefreshToken(), await newRefreshToken()] as const
  const assertion = await newAssertion()
  const answers = await race(server.databaseUrl, 'RefreshToken', [
    () => refresh(tokens[0], assertion),
    () => refresh(tokens[1], assertion, other.fetch),
  ])
  t.deepEqual(answers.map(({ status }) => status).sort(), [200, 401])
  const lost = answers.findIndex(({ status }) => status === 401)
  t.is(answers[lost]?.body.error, 'invalid_client')
  // Nothing was consumed by the one that was refused.
  t.is((await refresh(tokens[lost] as string, await newAssertion())).status, 200)
})

test('an assertion that comes back consumes nothing', async (t) => {
  const token = await newRefreshToken()
  const assertion = await newAssertion()
  await ask(service, assertion)
  t.is((await refresh(token, assertion)).body.error, 'invalid_client')
  t.is((await refresh(token, await newAssertion())).status, 200)
})

test('an assertion that comes back with a used refresh token ends nothing', async (t) => {
  const token = await newRefreshToken()
  const assertion = await newAssertion()
  const { body } = await refresh(token, assertion)
  t.is((await refresh(token, assertion)).body.error, 'invalid_client')
  t.is((await refresh(body.refresh_token, await newAssertion())).status, 200)
})

test('a fresh assertion with a used refresh token ends its family, and is used up', async (t) => {
  const token = await newRefreshToken()
  const { body } = await refresh(token, await newAssertion())
  const assertion = await newAssertion()
  t.is((await refresh(token, assertion)).body.error, 'invalid_grant')
  t.is((await ask(service, assertion)).body.error, 'invalid_client')
  t.is((await refresh(body.refresh_token, await newAssertion())).body.error, 'invalid_grant')
})

const failures: Record<string, { parameters: Record<string, string>; error: string }> = {
  'has an unknown resource': {
    parameters: { ...service, resource: 'https://unknown.example' },
    error: 'invalid_target',
  },
  'has an unknown refresh token': {
    parameters: { grant_type: 'refresh_token', refresh_token: 'unknown' },
    error: 'invalid_grant',
  },
  'has an unknown grant': { parameters: { grant_type: 'other' }, error: 'unsupported_grant_type' },
  'has no grant': { parameters: {}, error: 'invalid_request' },
}
for (const [what, { parameters, error }] of Object.entries(failures)) {
  test(`the assertion of a request that ${what} is used up`, async (t) => {
    const assertion = await newAssertion()
    t.is((await ask(parameters, assertion)).body.error, error)
    t.is((await ask(service, assertion)).body.error, 'invalid_client')
  })
}

test('the assertion of a request without a proof is used up', async (t) => {
  const assertion = await newAssertion()
  const { body } = await post(server, '/token', { ...service, ...assertion })
  t.is(body.error, 'invalid_grant')
  t.is((await ask(service, assertion)).body.error, 'invalid_client')
})

test('the proof of a request whose assertion comes back is used up', async (t) => {
  const assertion = await newAssertion()
  await ask(service, assertion)
  const proof = await makeProof(key, { method: 'POST', url: `${server.issuer}/token` })
  const by = (shown: Assertion) => post(server, '/token', { ...service, ...shown }, { proof })
  t.is((await by(assertion)).body.error, 'invalid_client')
  t.is((await by(await newAssertion())).body.error, 'invalid_grant')
})

for (const path of ['/introspect', '/revoke']) {
  test(`an assertion is good once at ${path} and at the token endpoint together`, async (t) => {
    const [first, second] = [await newAssertion(), await newAssertion()]
    const there = (assertion: Assertion) => post(server, path, { token: 'unknown', ...assertion })
    t.is((await there(first)).status, 200)
    t.is((await ask(service, first)).body.error, 'invalid_client')
    t.is((await ask(service, second)).status, 200)
    t.is((await there(second)).body.error, 'invalid_client')
  })
}

test('an assertion and a proof may have one identifier, and both are good once', async (t) => {
  const jti = randomUUID()
  const url = `${server.issuer}/token`
  const [assertion, fresh] = [await newAssertion({ jti }), await newAssertion()]
  const proof = await makeProof(key, { method: 'POST', url, jti })
  const forApi = { ...service, resource: api, scope: 'read' }
  const by = (shown: Assertion, shownProof?: string) =>
    post(
      server,
      '/token',
      { ...forApi, ...shown },
      { key, ...(shownProof && { proof: shownProof }) },
    )
  t.is((await by(assertion, proof)).status, 200)
  t.is((await by(assertion)).body.error, 'invalid_client')
  t.is((await by(fresh, proof)).body.error, 'invalid_grant')
})
// What a client may make this server fetch: anybody with a registration token chooses a jwks_uri.

const resolved: string[] = []
const fetchFromInside = createGuardedFetch({
  resolve: async (name) => {
    resolved.push(name)
    return name === 'failing.example' ? [] : ['127.0.0.1']
  },
})
const keySets = new Map<string, string>()
const guardedFetch: typeof fetchFromInside = async (url, options) => {
  const body = keySets.get(String(url))
  if (body === undefined) return fetchFromInside(url, options)
  return { status: 200, headers: new Map(), body: new Uint8Array(Buffer.from(body)) }
}
const jwksServer = useTestServer(test, {}, { guardedFetch })

/** Authenticates as a client whose keys are at an address. */
async function authenticate(jwks_uri: string, client_id = `keys at ${jwks_uri}`) {
  // By the side of every check of registration.
  await jwksServer.storage.clients.remove(client_id)
  await jwksServer.storage.clients.insert({
    client_id,
    jwks_uri,
    token_endpoint_auth_method: 'private_key_jwt',
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
  })
  const key = await newKey()
  const assertion = await new SignJWT({ jti: 'one' })
    .setProtectedHeader({ alg: 'ES256' })
    .setIssuer(client_id)
    .setSubject(client_id)
    .setAudience(jwksServer.issuer)
    .setIssuedAt()
    .setExpirationTime('1m')
    .sign(key.privateKey)
  return post(
    jwksServer,
    '/token',
    {
      grant_type: 'client_credentials',
      resource: api,
      client_id,
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: assertion,
    },
    { key },
  )
}

/** A server of the inner network that counts whoever connects to it. */
async function innerServer() {
  const connected: string[] = []
  const inner = createServer((socket) => {
    connected.push(String(socket.remoteAddress))
    socket.destroy()
  })
  inner.listen(0, '::')
  await once(inner, 'listening')
  const { port } = inner.address() as AddressInfo
  return { connected, port, [Symbol.dispose]: () => inner.close() }
}

async function asksNothing(t: ExecutionContext, host: string) {
  for (const scheme of ['https', 'http']) {
    using inner = await innerServer()
    const { status } = await authenticate(`${scheme}://${host}:${inner.port}/keys`)
    t.is(status, 401)
    t.deepEqual(inner.connected, [])
  }
}

test.serial('never connects to a host name that resolves to a private address', async (t) => {
  await asksNothing(t, 'keys.evil.example')
  await asksNothing(t, 'localhost')
  t.true(resolved.includes('keys.evil.example'))
})

test.serial('never connects to a private address, however it is written', async (t) => {
  const hosts = ['127.0.0.1', '[::1]', '[::ffff:127.0.0.1]', '0.0.0.0', '2130706433', '0x7f000001']
  for (const host of hosts) await asksNothing(t, host)
})

test.serial('asks for the keys of one client ten times a minute', async (t) => {
  const answers = []
  for (const path of Array.from({ length: 12 }, (_, at) => `/${at}`)) {
    answers.push(await authenticate(`https://failing.example${path}`, 'one'))
  }
  t.deepEqual(
    answers.map(({ status }) => status),
    Array(12).fill(401),
  )
  t.is(resolved.filter((name) => name === 'failing.example').length, 10)
})

/** A signature by RSA with exponent 1, which is the padded digest: anybody can make it. */
function signByNobody(claims: object, kid = 'weak'): string {
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const input = `${encode({ alg: 'RS256', kid })}.${encode(claims)}`
  const digest = Buffer.concat([
    Buffer.from('3031300d060960864801650304020105000420', 'hex'),
    hash('sha256', input, 'buffer'),
  ])
  const padding = Buffer.alloc(256 - 3 - digest.length, 0xff)
  const padded = Buffer.concat([Buffer.of(0, 1), padding, Buffer.of(0), digest])
  return `${input}.${padded.toString('base64url')}`
}

test.serial('rejects keys with which anyone can sign, wherever a client uses them', async (t) => {
  const { n } = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({
    format: 'jwk',
  })
  const weak = { kty: 'RSA', n, e: 'AQ', kid: 'weak', alg: 'RS256' }
  const { publicKey, privateKey } = await newKey()
  const strong = { ...(await exportJWK(publicKey)), kid: 'strong' }
  const keys = [weak, strong]
  keySets.set('https://keys.example/set', JSON.stringify({ keys }))
  const redirect_uri = 'https://app.example/callback'
  for (const source of [{ jwks_uri: 'https://keys.example/set' }, { jwks: { keys } }]) {
    const client_id = `weak keys by ${Object.keys(source)}`
    await jwksServer.storage.clients.insert({
      client_id,
      ...source,
      token_endpoint_auth_method: 'private_key_jwt',
      grant_types: ['authorization_code', 'client_credentials'],
      response_types: ['code'],
      redirect_uris: [redirect_uri],
    } as ClientMetadata)
    const claimsOf = (jti: string) => ({
      jti,
      iss: client_id,
      sub: client_id,
      aud: jwksServer.issuer,
      exp: Math.floor(Date.now() / 1000) + 60,
    })
    const bySomebody = (claims: JWTPayload) =>
      new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: 'strong' }).sign(privateKey)
    const authorization = {
      response_type: 'code',
      redirect_uri,
      scope: 'openid',
      code_challenge: 'x'.repeat(43),
      code_challenge_method: 'S256',
    }
    const push = async (client_assertion: string) => {
      const client_assertion_type = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
      const asked = { ...authorization, client_id, client_assertion, client_assertion_type }
      return (await post(jwksServer, '/par', asked)).status
    }
    const authorize = async (request: string) => {
      const query = new URLSearchParams({ client_id, request })
      const { status } = await fetch(`${jwksServer.issuer}/authorize?${query}`, {
        redirect: 'manual',
      })
      return status
    }
    const nbf = Math.floor(Date.now() / 1000)
    const request = { ...claimsOf('three'), nbf, ...authorization, client_id }
    t.is(await push(await bySomebody(claimsOf('one'))), 201)
    t.is(await push(signByNobody(claimsOf('two'))), 401)
    t.is(await authorize(await bySomebody(request)), 303)
    t.is(await authorize(signByNobody(request)), 400)
  }
})

test.serial('takes no key set that names a member twice', async (t) => {
  keySets.set('https://keys.example/twice', '{"keys":[],"keys":[]}')
  const { status, body } = await authenticate('https://keys.example/twice')
  t.is(status, 401)
  t.is(body.error, 'invalid_client')
  t.regex(body.error_description, /could not be fetched: it is no JSON Web Key Set/)
})

const changedServer = useTestServer(test, { HOLDFAST_REGISTRATION: 'on' })
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
  const url = `${changedServer.issuer}/authorize?${new URLSearchParams(request)}`
  return person.browser.visit(url, { until })
}

async function asked(person: Person, client_id: string, parameters = {}): Promise<boolean> {
  return (await visit(person, client_id, parameters)).html.includes('>Allow<')
}

/** A client of an administrator that a person has allowed. */
async function allowed() {
  const { client_id } = await changedServer.addClient(metadata)
  const person = createPerson(changedServer)
  await obtainCode(person, { client_id }, { redirect_uri })
  return { client_id, person }
}

const change = (client_id: string, changes: Partial<ClientMetadata>) =>
  changeClient(
    client_id,
    { ...metadata, ...changes },
    { table: changedServer.storage.clients, validator: changedServer.provider },
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
  const { client_id } = await changedServer.addClient({
    ...metadata,
    redirect_uris: [redirect_uri, other],
  })
  const person = createPerson(changedServer)
  await obtainCode(person, { client_id }, { redirect_uri })
  t.true(await asked(person, client_id, { redirect_uri: other }))
  await obtainCode(person, { client_id }, { redirect_uri: other })
  t.false(await asked(person, client_id, { redirect_uri: other }))
  t.false(await asked(person, client_id))
})

test('asks once about a grant that was given before the upgrade', async (t) => {
  const { client_id, person } = await allowed()
  const old = await query(
    changedServer.databaseUrl,
    `update artifacts set payload = (payload::jsonb - 'shown')::json
     where kind = 'Grant' and client_id = '${client_id}' and payload->'shown' is not null returning id`,
  )
  t.is(old.length, 1)
  t.true(await asked(person, client_id))
  await obtainCode(person, { client_id }, { redirect_uri })
  t.false(await asked(person, client_id))
})

test('asks for consent again when a self-registered client has changed its name', async (t) => {
  const [key, token] = [await newKey(), await initialToken(changedServer)]
  const { body } = await register(changedServer, { token, key, body: webClient })
  const { client_id, registration_access_token } = body
  const [uri = ''] = webClient.redirect_uris
  const to = { redirect_uri: uri }
  const person = createPerson(changedServer)
  await obtainCode(person, body, to)
  t.false(await asked(person, client_id, to))
  const { status } = await register(changedServer, {
    method: 'PUT',
    client: client_id,
    token: registration_access_token,
    key,
    body: { ...webClient, client_id, client_name: 'Bank' },
  })
  t.is(status, 200)
  t.true(await asked(person, client_id, to))
})

const registrationServer = useTestServer(test)

const valid = {
  client_id: 'broken',
  application_type: 'web',
  redirect_uris: ['https://app.example.com/callback'],
} as const satisfies RequestedMetadata

const refused: [string, Record<string, unknown>, RegExp][] = [
  ['an unknown binding', { binding_method: 'tls' }, /binding_method must be one of/],
  [
    'a contradiction of binding and flag',
    { binding_method: 'bearer', dpop_bound_access_tokens: true },
    /contradicts binding_method bearer/,
  ],
  ['no redirect URI', { redirect_uris: [] }, /redirect_uris/],
  ['a malformed redirect URI', { redirect_uris: ['callback'] }, /redirect_uris/],
  ['a redirect URI with a fragment', { redirect_uris: ['https://a.example/#x'] }, /fragment/],
  [
    'a web client on plain HTTP',
    { redirect_uris: ['http://a.example/cb'] },
    /redirect_uris must be https/,
  ],
  [
    'another spelling of a redirect URI',
    { redirect_uris: ['https://SHOP.example:8443/cb'] },
    /redirect_uris must be written https:\/\/shop\.example:8443\/cb \(got https:\/\/SHOP/,
  ],
  [
    'another spelling of where logout ends',
    { post_logout_redirect_uris: ['https://a.example:443/'] },
    /post_logout_redirect_uris must be written https:\/\/a\.example\//,
  ],
  ['redirect URIs that are no list', { redirect_uris: 'https://a.example/cb' }, /redirect_uris/],
  ['an unknown authentication', { token_endpoint_auth_method: 'tls_client_auth' }, /auth_method/],
  ['a key that is missing', { token_endpoint_auth_method: 'private_key_jwt' }, /jwks/],
  ['an unknown grant', { grant_types: ['password'] }, /grant_types/],
  ['the implicit flow', { response_types: ['token'] }, /response_types/],
  ['a client_id that is no text', { client_id: 5 }, /client_id/],
  ['the client_id of My security', { client_id: 'holdfast-my-security' }, /is reserved/],
  ['a client_id of nothing', { client_id: '' }, /client_id must be 1 to 256/],
  ['a client_id with a letter beyond ASCII', { client_id: 'caf\u00e9' }, /client_id must be/],
  ['a client_id on two lines', { client_id: 'a\nb' }, /client_id must be/],
  ['a client_id without end', { client_id: 'x'.repeat(257) }, /client_id must be/],
  ['U+0000', { client_name: 'a\0b' }, /character/],
  ['half a surrogate pair', { client_name: 'a\ud800' }, /character/],
  ['a name that turns the text', { client_name: 'Shop\u202e' }, /client_name must be 1 to 100/],
  ['a name that nobody sees', { client_name: '\u200b' }, /client_name must be/],
  ['a name with tags', { client_name: 'Shop\u{e0041}' }, /client_name must be/],
  ['a name of 10 KB', { client_name: 'x'.repeat(10_240) }, /client_name must be/],
]

for (const [what, changes, sentence] of refused) {
  test(`does not register ${what}`, async (t) => {
    const error = await t.throwsAsync(
      registrationServer.addClient({ ...valid, ...changes } as RequestedMetadata),
      { instanceOf: RegistrationError },
    )
    t.is(error?.code, 'invalid_client_metadata')
    t.regex(error?.message ?? '', sentence)
    t.regex(error?.message ?? '', /^The client cannot be registered: [^\n]*\.$/)
    t.is(await registrationServer.storage.clients.find('broken'), undefined)
  })
}

test('registers plain HTTP of loopback', async (t) => {
  const redirect_uris = ['http://localhost:3000/callback', 'http://127.0.0.1', 'http://0.0.0.0/cb']
  const { client_id } = await registrationServer.addClient({
    ...valid,
    client_id: 'local',
    redirect_uris,
  })
  t.deepEqual(
    (await registrationServer.storage.clients.find(client_id))?.redirect_uris,
    redirect_uris,
  )
})

test('registers any client_id that RFC 6749 has', async (t) => {
  const client_id = 'My shop: "a"/<b>?c=d%e&~'.padEnd(256, 'x')
  t.is((await registrationServer.addClient({ ...valid, client_id })).client_id, client_id)
})

test('changes no client to a name or redirect URI that it could not be added with', async (t) => {
  const { client_id } = await registrationServer.addClient({ ...valid, client_id: 'changing' })
  const by = { table: registrationServer.storage.clients, validator: registrationServer.provider }
  for (const change of [
    { client_name: 'Shop\u202e' },
    { redirect_uris: ['https://APP.example.com/callback'] },
  ]) {
    const error = await t.throwsAsync(
      changeClient(client_id, { ...valid, client_id, ...change }, by),
      { instanceOf: RegistrationError },
    )
    t.is(error?.code, 'invalid_client_metadata')
  }
})

test('tells a client_id that is taken from other mistakes', async (t) => {
  await registrationServer.addClient({ ...valid, client_id: 'taken' })
  const error = await t.throwsAsync(
    registrationServer.addClient({ ...valid, client_id: 'taken' }),
    {
      instanceOf: RegistrationError,
    },
  )
  t.is(error?.code, 'client_id_taken')
})
