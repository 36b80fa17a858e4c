import { generateKeyPairSync, hash, KeyObject, randomUUID, sign } from 'node:crypto'
import test from 'ava'
import {
  calculateJwkThumbprint,
  decodeJwt,
  decodeProtectedHeader,
  exportJWK,
  type JWTHeaderParameters,
  SignJWT,
} from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import pg from 'pg'
import { changeClient } from '../../src/clients/client-registration.ts'
import { version } from '../../src/config/version.ts'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import type { StoredAuditRow } from '../../src/storage/audit-table.ts'
import {
  basic,
  callback,
  createPerson,
  newKey,
  obtainCode,
  post,
  refreshing,
} from '../support/flow.ts'
import { authorizationUrl } from '../support/journey.ts'
import { thumbprint } from '../support/registration.ts'
import { api, email, publicClient, useTestServer } from '../support/server.ts'
import { createUserAgent, type Page } from '../support/user-agent.ts'

const server = useTestServer(test)
const web = {
  application_type: 'web',
  redirect_uris: ['https://app.example/callback'],
} as const
const redirect_uri = web.redirect_uris[0]

let client: ClientMetadata
let confidential: ClientMetadata
let service: ClientMetadata
let key: KeyPair
let jkt: string

test.before(async () => {
  client = await server.addClient()
  confidential = await server.addClient({
    ...web,
    token_endpoint_auth_method: 'client_secret_basic',
  })
  service = await server.addClient({
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    token_endpoint_auth_method: 'client_secret_basic',
  })
  key = await newKey()
  jkt = await calculateJwkThumbprint(await exportJWK(key.publicKey))
})

const issued = async (parameters: Record<string, string> = {}) => {
  const { exchange } = await obtainCode(createPerson(server), client, parameters)
  return post(server, '/token', exchange, { key })
}

test('a code with a proof becomes bound tokens', async (t) => {
  const { status, body } = await issued()
  t.is(status, 200)
  t.is(body.token_type, 'DPoP')
  t.truthy(body.refresh_token)
})

test('a token request without a proof is refused before the code is looked up', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const refused = await post(server, '/token', exchange)
  t.is(refused.status, 400)
  t.is(refused.body.error, 'invalid_grant')
  t.regex(refused.body.error_description, /DPoP proof/)
  const unknown = await post(server, '/token', { ...exchange, code: 'unknown' })
  t.deepEqual(unknown.body, refused.body)
  t.is((await post(server, '/token', exchange, { key })).status, 200)
})

test('a refresh without a proof is invalid_grant and consumes nothing', async (t) => {
  const { body } = await issued()
  const refused = await post(server, '/token', refreshing(client, body.refresh_token))
  t.is(refused.body.error, 'invalid_grant')
  t.is((await post(server, '/token', refreshing(client, body.refresh_token), { key })).status, 200)
})

test('a refresh with another key is invalid_grant and consumes nothing', async (t) => {
  const { body } = await issued()
  const refresh = refreshing(client, body.refresh_token)
  const refused = await post(server, '/token', refresh, { key: await newKey() })
  t.is(refused.body.error, 'invalid_grant')
  t.is((await post(server, '/token', refresh, { key })).status, 200)
})

test('the refresh token of a confidential client is bound as well', async (t) => {
  const headers = basic(confidential)
  const { exchange } = await obtainCode(createPerson(server), confidential, { redirect_uri })
  const { body } = await post(server, '/token', exchange, { key, headers })
  const refresh = refreshing(confidential, body.refresh_token)
  const refused = await post(server, '/token', refresh, { key: await newKey(), headers })
  t.is(refused.body.error, 'invalid_grant')
  const { body: next } = await post(server, '/token', refresh, { key, headers })
  const { body: seen } = await post(
    server,
    '/introspect',
    { token: next.refresh_token },
    { headers },
  )
  t.deepEqual(seen.cnf, { jkt })
})

test('a refresh token of bearer days is refused once the client is bound', async (t) => {
  const changing = await server.addClient({ binding_method: 'bearer' })
  const { exchange } = await obtainCode(createPerson(server), changing)
  const { body } = await post(server, '/token', exchange)
  t.is(body.token_type, 'Bearer')
  const registered = { table: server.storage.clients, validator: server.provider }
  await changeClient(changing.client_id, { ...publicClient }, registered)
  const refused = await post(server, '/token', refreshing(changing, body.refresh_token), { key })
  t.is(refused.body.error, 'invalid_grant')
})

test('a client that asks for bearer tokens by name gets them', async (t) => {
  const bearer = await server.addClient({ binding_method: 'bearer' })
  const { exchange } = await obtainCode(createPerson(server), bearer)
  const { body } = await post(server, '/token', exchange)
  t.is(body.token_type, 'Bearer')
})

test('a client that only unsets the RFC flag stays bound', async (t) => {
  const unset = await server.addClient({ dpop_bound_access_tokens: false })
  t.is(unset.binding_method, 'dpop')
  t.true(unset.dpop_bound_access_tokens)
})

test('a client cannot be bearer and DPoP-bound', async (t) => {
  await t.throwsAsync(
    server.addClient({ binding_method: 'bearer', dpop_bound_access_tokens: true }),
    { code: 'invalid_client_metadata' },
  )
})

test('a client cannot name a binding method that nobody knows', async (t) => {
  await t.throwsAsync(server.addClient({ binding_method: 'hope' }), {
    code: 'invalid_client_metadata',
  })
})

test('dpop_jkt binds the code: another key is refused and consumes nothing', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client, { dpop_jkt: jkt })
  const refused = await post(server, '/token', exchange, { key: await newKey() })
  t.is(refused.body.error, 'invalid_grant')
  t.is((await post(server, '/token', exchange, { key })).status, 200)
})

test('a proof at the pushed authorization request binds the code', async (t) => {
  const verifier = 'v'.repeat(43)
  const request = {
    client_id: client.client_id,
    response_type: 'code',
    redirect_uri: 'http://127.0.0.1/callback',
    scope: 'openid',
    code_challenge: hash('sha256', verifier, 'base64url'),
    code_challenge_method: 'S256',
  }
  const pushed = await post(server, '/par', request, { key })
  t.is(pushed.status, 201)
  const arrived = await createPerson(server).authorize({
    client_id: client.client_id,
    request_uri: pushed.body.request_uri,
  })
  const exchange = {
    grant_type: 'authorization_code',
    client_id: client.client_id,
    code: arrived.searchParams.get('code') ?? '',
    code_verifier: verifier,
    redirect_uri: request.redirect_uri,
  }
  const refused = await post(server, '/token', exchange, { key: await newKey() })
  t.is(refused.body.error, 'invalid_grant')
  t.is((await post(server, '/token', exchange, { key })).status, 200)
})

test('a pushed request with a proof and the dpop_jkt of another key is refused', async (t) => {
  const other = await calculateJwkThumbprint(await exportJWK((await newKey()).publicKey))
  const refused = await post(
    server,
    '/par',
    {
      client_id: client.client_id,
      response_type: 'code',
      redirect_uri: 'http://127.0.0.1/callback',
      code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
      code_challenge_method: 'S256',
      dpop_jkt: other,
    },
    { key },
  )
  t.is(refused.status, 400)
  t.is(refused.body.error, 'invalid_request')
})

test('an access token for a registered API is a bound JWT of RFC 9068', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client, {
    scope: 'openid read',
    resource: api,
  })
  const { body } = await post(server, '/token', { ...exchange, resource: api }, { key })
  t.like(decodeProtectedHeader(body.access_token), { typ: 'at+jwt', alg: 'ES256' })
  t.like(decodeJwt(body.access_token), {
    iss: server.issuer,
    aud: api,
    client_id: client.client_id,
    scope: 'read',
    cnf: { jkt },
  })
})

test('an unknown resource burns neither the code nor the refresh token', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client, {
    scope: 'openid read',
    resource: api,
  })
  const unknown = 'https://nobody.example'
  const refused = await post(server, '/token', { ...exchange, resource: unknown }, { key })
  t.is(refused.body.error, 'invalid_target')
  const { body } = await post(server, '/token', { ...exchange, resource: api }, { key })
  const refresh = refreshing(client, body.refresh_token)
  const again = await post(server, '/token', { ...refresh, resource: unknown }, { key })
  t.is(again.body.error, 'invalid_target')
  t.is((await post(server, '/token', { ...refresh, resource: api }, { key })).status, 200)
})

test('userinfo answers the key that the token is bound to', async (t) => {
  const { body } = await issued({ scope: 'openid email' })
  const url = `${server.issuer}/userinfo`
  const dpop = await makeProof(key, { method: 'GET', url, accessToken: body.access_token })
  const answer = await fetch(url, {
    headers: { authorization: `DPoP ${body.access_token}`, dpop },
  })
  t.is(answer.status, 200)
  t.is(((await answer.json()) as { email: string }).email, 'ada@example.com')
})

test('userinfo refuses a bound token as Bearer', async (t) => {
  const { body } = await issued()
  const answer = await fetch(`${server.issuer}/userinfo`, {
    headers: { authorization: `Bearer ${body.access_token}` },
  })
  t.is(answer.status, 401)
})

test('a service gets a bound token, and none without a proof', async (t) => {
  const parameters = { grant_type: 'client_credentials', resource: api, scope: 'read' }
  const headers = basic(service)
  const { body } = await post(server, '/token', parameters, { key, headers })
  t.deepEqual(decodeJwt(body.access_token).cnf, { jkt })
  const refused = await post(server, '/token', parameters, { headers })
  t.is(refused.body.error, 'invalid_grant')
})

test('PKCE is required of confidential clients as well', async (t) => {
  const arrived = await createPerson(server).authorize({
    client_id: confidential.client_id,
    response_type: 'code',
    redirect_uri,
    scope: 'openid',
  })
  t.is(arrived.searchParams.get('error'), 'invalid_request')
})

test('a client secret is stored as a digest', async (t) => {
  const stored = await server.storage.clients.find(confidential.client_id)
  t.regex(stored?.client_secret ?? '', /^sha256:/)
  const wrong = { ...confidential, client_secret: stored?.client_secret ?? '' }
  const parameters = { grant_type: 'client_credentials' }
  const refused = await post(server, '/token', parameters, { key, headers: basic(wrong) })
  t.is(refused.status, 401)
  t.is(refused.body.error, 'invalid_client')
})

test('a proof for the address a proxy or attacker names is refused', async (t) => {
  const proof = await makeProof(key, { method: 'POST', url: 'https://evil.example/token' })
  const headers = { ...basic(service), 'x-forwarded-host': 'evil.example' }
  const refused = await post(
    server,
    '/token',
    { grant_type: 'client_credentials' },
    { proof, headers },
  )
  t.is(refused.body.error, 'invalid_dpop_proof')
})

test('a replay mark outlasts a proof from the edge of the future', async (t) => {
  const headers = basic(service)
  const iat = Math.floor(Date.now() / 1000) + 9
  const proof = await makeProof(key, { method: 'POST', url: `${server.issuer}/token`, iat })
  const parameters = { grant_type: 'client_credentials' }
  t.is((await post(server, '/token', parameters, { proof, headers })).status, 200)
  const database = new pg.Client({ connectionString: server.databaseUrl })
  await database.connect()
  const { rows } = await database.query<{ kept: number }>(
    'select max(extract(epoch from expires_at))::float8 as kept from replay_marks',
  )
  await database.end()
  t.true((rows[0]?.kept ?? 0) >= iat + 300)
})
let proofClient: ClientMetadata
let proofKey: KeyPair

test.before(async () => {
  proofKey = await newKey()
  proofClient = await server.addClient({
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    application_type: 'web',
    token_endpoint_auth_method: 'client_secret_basic',
  })
})

const now = () => Math.floor(Date.now() / 1000)

async function ask(
  { claims = {}, header = {} }: { claims?: object; header?: object } = {},
  change = (proof: string) => proof,
) {
  const { alg, ...rest } = { alg: 'ES256', typ: 'dpop+jwt', ...header }
  const jwk = await exportJWK(proofKey.publicKey)
  const payload = { htm: 'POST', htu: `${server.issuer}/token`, jti: randomUUID(), iat: now() }
  const proof = await new SignJWT({ ...payload, ...claims })
    .setProtectedHeader({ alg, jwk, ...rest } as JWTHeaderParameters)
    .sign(proofKey.privateKey)
  return post(
    server,
    '/token',
    { grant_type: 'client_credentials' },
    { proof: change(proof), headers: basic(proofClient) },
  )
}

test('a proof by RFC 9449 gets a bound token, and the next nonce', async (t) => {
  const { status, body, headers } = await ask()
  t.is(status, 200)
  t.is(body.token_type, 'DPoP')
  const nonce = headers.get('dpop-nonce')
  t.truthy(nonce)
  t.is((await ask({ claims: { nonce } })).status, 200)
})

/** A proof whose header is given as text, signed by the key that is in it. */
function proofOf(header: string, path: string): string {
  const encode = (text: string) => Buffer.from(text).toString('base64url')
  const ath = hash('sha256', 'token', 'base64url')
  const claims = { htm: 'POST', htu: server.issuer + path, jti: randomUUID(), iat: now(), ath }
  const input = `${encode(header)}.${encode(JSON.stringify(claims))}`
  const signature = sign('sha256', Buffer.from(input), {
    key: KeyObject.from(proofKey.privateKey),
    dsaEncoding: 'ieee-p1363',
  })
  return `${input}.${signature.toString('base64url')}`
}

for (const path of ['/token', '/par', '/userinfo']) {
  test(`refuses a proof that names a member twice, or nests 40 arrays, at ${path}`, async (t) => {
    const { client_id = '' } = await server.addClient()
    const asked = {
      client_id,
      response_type: 'code',
      redirect_uri: callback,
      code_challenge: 'x'.repeat(43),
      code_challenge_method: 'S256',
    }
    const use = async (header: string) => {
      const parameters = path === '/par' ? asked : { grant_type: 'client_credentials' }
      const headers = {
        '/token': basic(proofClient),
        '/par': {},
        '/userinfo': { authorization: 'DPoP token' },
      }[path] as Record<string, string>
      return post(server, path, parameters, { proof: proofOf(header, path), headers })
    }
    const jwk = JSON.stringify(await exportJWK(proofKey.publicKey))
    const members = `"alg":"ES256","typ":"dpop+jwt","jwk":${jwk}`
    t.not((await use(`{${members}}`)).body.error, 'invalid_dpop_proof')
    for (const more of ['"alg":"none"', `"x":${'['.repeat(40)}${']'.repeat(40)}`]) {
      t.is((await use(`{${more},${members}}`)).body.error, 'invalid_dpop_proof', more)
    }
  })
}

const wrong = {
  'another method': { claims: { htm: 'GET' } },
  'another path': { claims: { htu: 'https://id.example/token' } },
  'no URL': { claims: { htu: undefined } },
  'no jti': { claims: { jti: undefined } },
  'an iat that is no number': { claims: { iat: String(now()) } },
  'a nonce that is no string': { claims: { nonce: 7 } },
  'another type': { header: { typ: 'JWT' } },
  'no key': { header: { jwk: undefined } },
  'a key that cannot be imported': {
    header: { jwk: { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA' } },
  },
  'another key': {
    header: {
      jwk: generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' }),
    },
  },
  'a private key in it': {
    header: {
      jwk: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }),
    },
  },
}
for (const [what, change] of Object.entries(wrong)) {
  test(`a proof with ${what} is refused`, async (t) => {
    const { status, body } = await ask(change)
    t.is(status, 400)
    t.is(body.error, 'invalid_dpop_proof')
  })
}

test('a proof that is no JWT is refused', async (t) => {
  const { status, body } = await ask({}, () => 'no.proof')
  t.is(status, 400)
  t.is(body.error, 'invalid_dpop_proof')
})

test('a proof with a broken signature is refused', async (t) => {
  const broken = (proof: string) =>
    proof.replace(/\.([^.]+)$/, (_, last: string) => `.${last.split('').toReversed().join('')}`)
  const { status, body } = await ask({}, broken)
  t.is(status, 400)
  t.is(body.error, 'invalid_dpop_proof')
})

for (const [when, seconds] of [
  ['past', -400],
  ['future', 400],
] as const) {
  test(`a clock that is far in the ${when} needs a nonce, and gets along with it`, async (t) => {
    const iat = now() + seconds
    const { status, body, headers } = await ask({ claims: { iat } })
    t.is(status, 400)
    t.is(body.error, 'use_dpop_nonce')
    const again = await ask({ claims: { iat, nonce: headers.get('dpop-nonce') } })
    t.is(again.status, 200)
  })
}

for (const [what, claims] of [
  ['an iat that no date can be', { iat: 1e300 }],
  ['an iat before all dates', { iat: -1e300 }],
  ['U+0000 and half a character in its jti', { jti: `\0\ud800${randomUUID()}` }],
] as const) {
  test(`answers a proof with ${what} without failing`, async (t) => {
    const { headers } = await ask({ claims: { nonce: 'made-up' } })
    const nonce = headers.get('dpop-nonce')
    const { status, body } = await ask({ claims: { ...claims, nonce } })
    t.true(status === 200 || body.error === 'invalid_dpop_proof', `${status} ${body.error}`)
  })
}

for (const nonce of ['', 'made-up']) {
  test(`the nonce "${nonce}" is refused, and a good one given`, async (t) => {
    const { status, body, headers } = await ask({ claims: { nonce } })
    t.is(status, 400)
    t.is(body.error, 'use_dpop_nonce')
    t.is((await ask({ claims: { nonce: headers.get('dpop-nonce') } })).status, 200)
  })
}

test('a proof by an algorithm that the metadata does not name is refused', async (t) => {
  const es384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
  const proof = await new SignJWT({ htm: 'POST', htu: `${server.issuer}/token`, jti: randomUUID() })
    .setProtectedHeader({
      typ: 'dpop+jwt',
      alg: 'ES384',
      jwk: es384.publicKey.export({ format: 'jwk' }),
    })
    .setIssuedAt()
    .sign(es384.privateKey)
  const request = { grant_type: 'client_credentials' }
  const { body } = await post(server, '/token', request, { proof, headers: basic(proofClient) })
  t.is(body.error, 'invalid_dpop_proof')
})

test('returns unauthorized_client for a grant that a client must not use', async (t) => {
  const client = await server.addClient({ token_endpoint_auth_method: 'client_secret_basic' })
  const { status, body } = await post(
    server,
    '/token',
    { grant_type: 'client_credentials', resource: api },
    { key: await newKey(), headers: basic(client) },
  )
  t.is(status, 400)
  t.is(body.error, 'unauthorized_client')
})

test('a grant that nobody knows stays unsupported_grant_type', async (t) => {
  const client = await server.addClient()
  const { body } = await post(server, '/token', {
    grant_type: 'password',
    client_id: client.client_id,
  })
  t.is(body.error, 'unsupported_grant_type')
})

test('returns tokens without a refresh token to a client that must not refresh', async (t) => {
  const client = await server.addClient({ grant_types: ['authorization_code'] })
  const { exchange } = await obtainCode(createPerson(server), client)
  const { status, body } = await post(server, '/token', exchange, { key: await newKey() })
  t.is(status, 200)
  t.false('refresh_token' in body)
})

const loggedServer = useTestServer(test)

/** What the server has written about a client, oldest first. */
async function audited(client: string): Promise<StoredAuditRow[]> {
  await loggedServer.flushAudit()
  return loggedServer.storage.audit.list({ client, limit: 100 })
}

const addService = () =>
  loggedServer.addClient({
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    token_endpoint_auth_method: 'client_secret_basic',
  })

const grant = { grant_type: 'client_credentials' }

test('a sign-in leaves its trace: login, consent, tokens', async (t) => {
  const client = await loggedServer.addClient()
  const { exchange } = await obtainCode(createPerson(loggedServer), client)
  t.is((await post(loggedServer, '/token', exchange, { key: await newKey() })).status, 200)
  const rows = await audited(client.client_id)
  t.deepEqual(
    rows.map(({ event }) => event),
    ['login.succeeded', 'consent.given', 'tokens.issued'],
  )
  t.is(new Set(rows.map(({ account }) => account)).size, 1)
  t.truthy(rows[0]?.account)
  t.true(rows.every(({ address }) => address === '127.0.0.1'))
  t.true(rows.every(({ requestId }) => requestId !== null))
  t.like(rows[2]?.details, { grantType: 'authorization_code', binding: 'dpop' })
})

/** The line of the log about a refused request: what strangers cause is no audit row. */
function refusalOf(headers: Headers): Record<string, unknown> | undefined {
  const lines = loggedServer.logged.map((text) => JSON.parse(text) as Record<string, unknown>)
  return lines.find(
    ({ event, requestId }) =>
      event === 'request.refused' && requestId === headers.get('x-request-id'),
  )
}

test('a refusal is logged with its reason, and without the code', async (t) => {
  const client = await loggedServer.addClient()
  const { exchange, code } = await obtainCode(createPerson(loggedServer), client)
  const wrong = { ...exchange, code_verifier: 'w'.repeat(43) }
  const refused = await post(loggedServer, '/token', wrong, { key: await newKey() })
  t.is(refused.body.error, 'invalid_grant')
  const line = refusalOf(refused.headers)
  t.like(line, { endpoint: 'grant', error: 'invalid_grant', reason: 'pkce_mismatch' })
  await loggedServer.flushAudit()
  const counted = await loggedServer.storage.countedEvents.list({ limit: 1000 })
  const reason = 'grant invalid_grant pkce_mismatch'
  t.like(
    counted.find((each) => each.reason === reason),
    { event: 'request.refused', network: '127.0.0.1', client: client.client_id, count: 1 },
  )
  t.false((await audited(client.client_id)).some(({ event }) => event === 'request.refused'))
  t.false(JSON.stringify([line, counted]).includes(code))
  t.false(loggedServer.logged.some((text) => text.includes(code)))
})

const refusals: Record<string, (url: string) => Promise<Record<string, string>>> = {
  dpop_missing: async () => ({}),
  dpop_htu_mismatch: async (url) => ({
    dpop: await makeProof(await newKey(), { method: 'POST', url: url.replace('/token', '/other') }),
  }),
  dpop_htm_mismatch: async (url) => ({
    dpop: await makeProof(await newKey(), { method: 'GET', url }),
  }),
  dpop_invalid: async () => ({ dpop: 'not a proof' }),
  client_authentication: async (url) => ({
    dpop: await makeProof(await newKey(), { method: 'POST', url }),
    authorization: `Basic ${btoa('nobody:nothing')}`,
  }),
}

for (const [reason, headersFor] of Object.entries(refusals)) {
  test(`the engine's words for ${reason} are known`, async (t) => {
    const client = await addService()
    const headers = { ...basic(client), ...(await headersFor(`${loggedServer.issuer}/token`)) }
    const { status, headers: answered } = await post(loggedServer, '/token', grant, { headers })
    t.true([400, 401].includes(status))
    t.is(refusalOf(answered)?.reason, reason)
  })
}

for (const [reason, parameters] of Object.entries({
  resource_unknown: { resource: 'https://unknown.example' },
  resource_malformed: { resource: 'no URI' },
  request_json: { claims: '{"id_token":{"acr":{"values":[7]}}}' },
})) {
  test(`labels a refusal of an authorization request ${reason}`, async (t) => {
    const client = await loggedServer.addClient()
    const query = new URLSearchParams({
      client_id: client.client_id,
      redirect_uri: client.redirect_uris?.[0] ?? '',
      response_type: 'code',
      scope: 'openid',
      code_challenge: 'x'.repeat(43),
      code_challenge_method: 'S256',
      ...parameters,
    })
    const url = `${loggedServer.issuer}/authorize?${query}`
    const { headers } = await fetch(url, { redirect: 'manual' })
    t.is(refusalOf(headers)?.reason, reason)
  })
}

test('a proof used twice is a replay', async (t) => {
  const client = await addService()
  const proof = await makeProof(await newKey(), {
    method: 'POST',
    url: `${loggedServer.issuer}/token`,
  })
  await post(loggedServer, '/token', grant, { proof, headers: basic(client) })
  const { headers } = await post(loggedServer, '/token', grant, { proof, headers: basic(client) })
  t.is(refusalOf(headers)?.reason, 'dpop_replayed')
})

test('a refresh token used twice is a replay, and ends its family', async (t) => {
  const client = await loggedServer.addClient()
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson(loggedServer), client)
  const { body } = await post(loggedServer, '/token', exchange, { key })
  await post(loggedServer, '/token', refreshing(client, body.refresh_token), { key })
  await post(loggedServer, '/token', refreshing(client, body.refresh_token), { key })
  const rows = await audited(client.client_id)
  t.deepEqual(
    rows.slice(-3).map(({ event, details }) => details.reason ?? event),
    ['tokens.issued', 'grant.ended', 'refresh_token_replayed'],
  )
  const ended = rows.at(-2)
  t.is(ended?.account, (await loggedServer.storage.accounts.findByEmail(email))?.account.id)
  t.like(ended?.details, { credential: 'refresh_token', cause: 'reused' })
})

test('the audit trail names the keys: that of the tokens, and that of a thief', async (t) => {
  const client = await loggedServer.addClient()
  const [key, thief] = [await newKey(), await newKey()]
  const { exchange } = await obtainCode(createPerson(loggedServer), client)
  const { body } = await post(loggedServer, '/token', exchange, { key })
  await post(loggedServer, '/token', refreshing(client, body.refresh_token), { key: thief })
  const rows = await audited(client.client_id)
  t.deepEqual(
    rows.slice(-2).map(({ event, details }) => [details.reason ?? event, details.proven]),
    [
      ['tokens.issued', { jkt: await thumbprint(key) }],
      ['key_mismatch', { jkt: await thumbprint(thief) }],
    ],
  )
})

test('a code used twice is a replay, and ends what was issued by it', async (t) => {
  const client = await loggedServer.addClient()
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson(loggedServer), client)
  await post(loggedServer, '/token', exchange, { key })
  await post(loggedServer, '/token', exchange, { key })
  const rows = await audited(client.client_id)
  t.deepEqual(
    rows.slice(-3).map(({ event, details }) => details.reason ?? event),
    ['tokens.issued', 'grant.ended', 'code_replayed'],
  )
})

test('a failed sign-in names the client and the address, not what was typed', async (t) => {
  const client = await loggedServer.addClient()
  const person = createPerson(loggedServer, {
    credentials: { email, password: 'a wrong and typed secret' },
  })
  await t.throwsAsync(obtainCode(person, client))
  const row = (await audited(client.client_id)).at(-1)
  t.is(row?.event, 'login.failed')
  t.is(row?.address, '127.0.0.1')
  const owner = await loggedServer.storage.accounts.findByEmail(email)
  t.truthy(owner)
  t.is(row?.account, owner?.account.id ?? '')
  t.notRegex(JSON.stringify([row, ...loggedServer.logged]), /a wrong and typed secret|ada@example/)
})

test('metrics are served on their own address, with the skew of clocks', async (t) => {
  const client = await addService()
  await post(loggedServer, '/token', grant, { key: await newKey(), headers: basic(client) })
  const answer = await fetch(`http://${loggedServer.operators}/metrics`)
  t.regex(answer.headers.get('content-type') ?? '', /^text\/plain/)
  const exposed = await answer.text()
  t.regex(exposed, /holdfast_grants_total\{grant_type="client_credentials",binding="dpop"\} \d/)
  t.regex(
    exposed,
    /holdfast_http_request_duration_seconds_count\{method="POST",route="token",status="200"\}/,
  )
  t.regex(exposed, /holdfast_dpop_clock_skew_seconds_count [1-9]/)
  t.true(exposed.includes(`holdfast_build_info{version="${version}"} 1`))
  t.is((await fetch(`${loggedServer.issuer}/metrics`)).status, 404)
  const live = (origin: string) => fetch(`${origin}/livez`).then((answer) => answer.json())
  t.deepEqual(await live(`http://${loggedServer.operators}`), { status: 'ok', version })
  t.deepEqual(await live(loggedServer.issuer), { status: 'ok' })
  t.is((await fetch(`http://${loggedServer.operators}/readyz`)).status, 200)
})

const filledServer = useTestServer(test, { HOLDFAST_DEVICE_FLOW: 'on' })
const webCallback = 'https://rp.example/callback'
let limitedClient: ClientMetadata
test.before(async () => {
  limitedClient = await filledServer.addClient({
    application_type: 'web',
    redirect_uris: [webCallback],
  })
})

const askWith = (
  parameters: Record<string, string> = {},
  { client_id } = limitedClient,
): Promise<Page> =>
  createUserAgent(filledServer.issuer).get(
    authorizationUrl(filledServer.issuer, {
      client_id,
      redirect_uri: webCallback,
      scope: 'openid',
      ...parameters,
    }),
  )
const errorOf = ({ location }: Page) => {
  const { origin, searchParams } = new URL(location ?? 'about:blank')
  return [origin, searchParams.get('error')]
}

test('accepts parameters of 2 KB', async (t) => {
  const page = await askWith({ state: 's'.repeat(2048), nonce: 'n'.repeat(2048) })
  t.regex(page.location ?? '', /\/interaction\//)
})

for (const name of ['state', 'nonce', 'login_hint', 'acr_values', 'ui_locales']) {
  test(`returns invalid_request when ${name} is longer than 2 KB`, async (t) => {
    const page = await askWith({ [name]: 'x'.repeat(2049) })
    t.deepEqual(errorOf(page), ['https://rp.example', 'invalid_request'])
  })
}

test('returns invalid_request when claims are longer than 2 KB', async (t) => {
  const page = await askWith({
    claims: JSON.stringify({ id_token: { ['x'.repeat(2048)]: null } }),
  })
  t.deepEqual(errorOf(page), ['https://rp.example', 'invalid_request'])
})

test('returns invalid_request when all parameters are longer than 8 KB', async (t) => {
  const long = 'x'.repeat(2000)
  const names = ['nonce', 'login_hint', 'acr_values', 'ui_locales', 'claims_locales']
  const page = await askWith(Object.fromEntries(names.map((name) => [name, long])))
  t.deepEqual(errorOf(page), ['https://rp.example', 'invalid_request'])
})

test('redirects no long parameter to an address that is not registered', async (t) => {
  const redirect_uri = 'https://evil.example/callback'
  const page = await askWith({ redirect_uri, state: 'x'.repeat(2049) })
  t.is(page.status, 400)
  t.is(page.location, undefined)
})

/** Parameters that mean nothing, of so many bytes together. */
const filled = (bytes: number) =>
  Object.fromEntries(
    Array.from({ length: Math.ceil(bytes / 1000) }, (_, at) => [`x${at}`, 'x'.repeat(1000)]),
  )

for (const [title, parameters, status] of [
  [
    'returns invalid_request from /par when a parameter is longer than 2 KB',
    { state: 'x'.repeat(2049) },
    400,
  ],
  [
    'returns invalid_request from /par when all parameters are longer than 16 KB',
    filled(16_300),
    400,
  ],
  ['accepts parameters of 14 KB at /par', filled(14_000), 201],
] as const) {
  test.serial(title, async (t) => {
    const answer = await post(filledServer, '/par', {
      client_id: limitedClient.client_id,
      response_type: 'code',
      redirect_uri: webCallback,
      scope: 'openid',
      code_challenge: 'x'.repeat(43),
      code_challenge_method: 'S256',
      ...parameters,
    })
    t.is(answer.status, status)
    t.is(answer.body.error, status === 400 ? 'invalid_request' : undefined)
    t.regex(answer.body.error_description ?? 'longer than', /longer than/)
  })
}

test('returns invalid_request from /device_authorization when a parameter is longer than 2 KB', async (t) => {
  const { client_id } = await filledServer.addClient({
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
    redirect_uris: [],
    response_types: [],
  })
  const parameters = { client_id, scope: 'openid', nonce: 'x'.repeat(2049) }
  const answer = await post(filledServer, '/device_authorization', parameters, {
    key: await newKey(),
  })
  t.deepEqual([answer.status, answer.body.error], [400, 'invalid_request'])
})

test('returns invalid_request when the state of a sign-out fits into no cookie', async (t) => {
  const state = crypto.getRandomValues(Buffer.alloc(4500)).toString('base64url')
  const agent = createUserAgent(filledServer.issuer)
  const page = await agent.get(`${filledServer.issuer}/session/end?state=${state}`)
  t.is(page.status, 400)
  t.true(page.text.includes('invalid_request'))
})

test.serial('limits the rows of requests that no cookie can hold', async (t) => {
  const random = () => crypto.getRandomValues(Buffer.alloc(1500)).toString('base64url')
  const large = () => askWith({ state: random(), nonce: random() })
  t.regex((await large()).location ?? '', /\/interaction\//)
  let refused = 0
  // In turn: of so many at once a busy node sheds some before they are counted.
  for (let count = 0; count < 62; count += 1) {
    if (errorOf(await large())[1] === 'temporarily_unavailable') refused += 1
  }
  t.true(refused >= 2)
  const small = await askWith()
  t.regex(small.location ?? '', /\/interaction\//)
})

for (const [title, parameters, error] of [
  ['nobody is signed in for prompt=none', { prompt: 'none' }, 'login_required'],
  ['it asks for an unknown prompt', { prompt: 'unknown' }, 'invalid_request'],
] as const) {
  test(`shows an error page to a self-registered client when ${title}`, async (t) => {
    const client_id = `stranger-${error}`
    const stranger = { ...limitedClient, client_id, self_registered: true } as const
    await filledServer.storage.clients.insert(stranger)
    const page = await askWith(parameters, stranger)
    t.is(page.status, 400)
    t.is(page.location, undefined)
    t.true(page.text.includes(error))
    t.deepEqual(errorOf(await askWith(parameters)), ['https://rp.example', error])
  })
}
