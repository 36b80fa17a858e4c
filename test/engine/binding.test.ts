import { hash } from 'node:crypto'
import test from 'ava'
import { calculateJwkThumbprint, decodeJwt, decodeProtectedHeader, exportJWK } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import pg from 'pg'
import { changeClient } from '../../src/clients/client-registration.ts'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import { basic, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { api, publicClient, useTestServer } from '../support/server.ts'

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
  const iat = Math.floor(Date.now() / 1000) + 290
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
