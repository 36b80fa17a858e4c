import { randomUUID } from 'node:crypto'
import test from 'ava'
import { decodeJwt, decodeProtectedHeader, exportJWK, generateKeyPair, SignJWT } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import type { KeyPair } from '../../src/doctor/proof.ts'
import { createStatementCounter } from '../support/counting.ts'
import { deviceEnvironment } from '../support/device-flow.ts'
import { basic, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { query } from '../support/query.ts'
import { api, email, useTestServer } from '../support/server.ts'

const counter = createStatementCounter()
const server = useTestServer(test, deviceEnvironment, { wrap: counter.wrap, now: () => 0 })
const redirect_uri = 'https://app.example/callback'
const client_assertion_type = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

let key: KeyPair
let client: ClientMetadata
let resource: ClientMetadata

test.before(async () => {
  key = await newKey()
  const web = { application_type: 'web', redirect_uris: [redirect_uri] } as const
  client = await server.addClient({
    ...web,
    token_endpoint_auth_method: 'client_secret_basic',
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
  })
  resource = await server.addClient({ ...web, token_endpoint_auth_method: 'client_secret_basic' })
})

/** What Java's HttpURLConnection accepts by default. */
const accept = 'text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2'
const signedOrHtml = 'text/html, application/token-introspection+jwt'

for (const path of ['/token', '/par', '/device_authorization', '/introspect', '/revoke']) {
  test(`answers an error in JSON at ${path}, whatever is accepted`, async (t) => {
    const { status, headers, body } = await post(
      server,
      path,
      { client_id: 'nobody' },
      { headers: { accept } },
    )
    t.true(status === 400 || status === 401)
    t.regex(headers.get('content-type') ?? '', /^application\/json/)
    t.is(typeof body.error, 'string')
    for (const each of [accept, signedOrHtml]) {
      const refused = await fetch(server.issuer + path, {
        method: 'POST',
        headers: { accept: each, 'client-cert': ':AA==:' },
      })
      t.is(refused.status, 400)
      t.regex(refused.headers.get('content-type') ?? '', /^application\/json/)
    }
  })
}

const service = { grant_type: 'client_credentials', resource: api, scope: 'read' }
const issue = async (parameters: Record<string, string> = service) =>
  (await post(server, '/token', parameters, { key, headers: basic(client) })).body
const introspect = async (token: string, by = resource) => {
  counter.names.length = 0
  const { body } = await post(server, '/introspect', { token }, { headers: basic(by) })
  return { body, statements: [...counter.names] }
}
const revoke = (token: string, by = client) =>
  post(server, '/revoke', { token }, { headers: basic(by) })

async function signIn(scope = 'openid offline_access read') {
  const asked = { redirect_uri, scope, resource: api, prompt: 'consent' }
  const { exchange } = await obtainCode(createPerson(server), client, asked)
  return { jwt: await issue({ ...exchange, resource: api }), exchange }
}

const inForm = ({ client_id, client_secret = '' }: ClientMetadata) => ({ client_id, client_secret })

test.serial('accepts a secret either way from a client that named no method', async (t) => {
  const grant_types = ['client_credentials']
  const named = {
    application_type: 'web',
    redirect_uris: [],
    response_types: [],
    grant_types,
  } as const
  const either = await server.addClient({ ...named, token_endpoint_auth_method: undefined })
  t.is((await post(server, '/token', service, { key, headers: basic(either) })).status, 200)
  t.is((await post(server, '/token', { ...service, ...inForm(either) }, { key })).status, 200)
  const wrong = { ...service, ...inForm(either), client_secret: 'wrong' }
  t.is((await post(server, '/token', wrong, { key })).status, 401)
})

test.serial('names the method that a client must authenticate by', async (t) => {
  const { status, body } = await post(server, '/token', { ...service, ...inForm(client) }, { key })
  t.is(status, 401)
  t.is(body.error, 'invalid_client')
  t.is(body.error_description, 'this client must authenticate by client_secret_basic')
})

test.serial('signs ID tokens by RS256 where a client names no algorithm', async (t) => {
  const { jwt } = await signIn()
  t.is(decodeProtectedHeader(jwt.id_token).alg, 'RS256')
})

test.serial('excuses a client from PKCE by its name, where it sends a nonce', async (t) => {
  const excused = await server.addClient({
    application_type: 'web',
    redirect_uris: [redirect_uri],
    token_endpoint_auth_method: 'client_secret_basic',
    require_pkce: false,
  })
  const asked = {
    client_id: excused.client_id,
    response_type: 'code',
    redirect_uri,
    scope: 'openid',
  }
  const { authorize } = createPerson(server)
  t.is((await authorize(asked)).searchParams.get('error'), 'invalid_request')
  const redeem = async (more: Record<string, string>) => {
    const code = (await authorize({ ...asked, nonce: 'n-1' })).searchParams.get('code') ?? ''
    const form = { grant_type: 'authorization_code', code, redirect_uri, ...more }
    return (await post(server, '/token', form, { key, headers: basic(excused) })).body
  }
  t.is(decodeJwt((await redeem({})).id_token).nonce, 'n-1')
  t.is((await redeem({ code_verifier: 'v'.repeat(43) })).error, 'invalid_grant')
  await t.throwsAsync(server.addClient({ require_pkce: false }), { message: /that authenticate/ })
})

for (const path of ['/token', '/revoke']) {
  test(`answers 405 to GET ${path}`, async (t) => {
    const response = await fetch(server.issuer + path)
    t.is(response.status, 405)
    t.regex(response.headers.get('allow') ?? '', /POST/)
    t.is(((await response.json()) as { error: string }).error, 'invalid_request')
  })
}

test.serial('revokes with an answer that has no body and no content type', async (t) => {
  const { status, headers, body } = await revoke((await issue()).access_token)
  t.is(status, 200)
  t.is(headers.get('content-type'), null)
  t.is(body, '')
})

test.serial('introspects a JWT access token by one statement', async (t) => {
  const { access_token } = await issue()
  // Clients are remembered from the first time on.
  await introspect(access_token)
  const { body, statements } = await introspect(access_token)
  t.deepEqual(body, { active: true, ...decodeJwt(access_token), token_type: 'DPoP' })
  t.deepEqual(statements, ['credential-state'])
})

test.serial('introspects an opaque token and a refresh token by one statement', async (t) => {
  const { jwt } = await signIn()
  const opaque = await issue({ ...refreshing(client, jwt.refresh_token), scope: 'openid' })
  for (const token of [opaque.access_token, opaque.refresh_token]) {
    const { body, statements } = await introspect(token)
    t.like(body, { active: true, client_id: client.client_id, iss: server.issuer })
    t.truthy(body.cnf.jkt)
    t.deepEqual(statements, ['credential-find'])
  }
})

test.serial('records an assertion and finds a token by one statement', async (t) => {
  const { privateKey, publicKey } = await generateKeyPair('ES256')
  const { client_id } = await server.addClient({
    ...{ application_type: 'web', redirect_uris: [redirect_uri] },
    token_endpoint_auth_method: 'private_key_jwt',
    jwks: { keys: [await exportJWK(publicKey)] },
  })
  const assertion = () =>
    new SignJWT({ jti: randomUUID() })
      .setProtectedHeader({ alg: 'ES256' })
      .setIssuer(client_id)
      .setSubject(client_id)
      .setAudience(server.issuer)
      .setExpirationTime('1m')
      .sign(privateKey)
  const ask = async (token: string, client_assertion: string) => {
    counter.names.length = 0
    const { body } = await post(server, '/introspect', {
      token,
      client_assertion_type,
      client_assertion,
    })
    return { active: body.active, error: body.error, statements: [...counter.names] }
  }
  const { access_token: jwt } = await issue()
  const { access_token: opaque } = await issue({ grant_type: 'client_credentials' })
  await ask(jwt, await assertion())
  for (const [token, statement] of [
    [jwt, 'credential-state-once'],
    [opaque, 'credential-find-once'],
    ['unknown', 'credential-find-once'],
  ] as const) {
    const shown = await assertion()
    const statements = [statement]
    const first = await ask(token, shown)
    t.deepEqual(first, { active: token !== 'unknown', error: undefined, statements })
    const second = await ask(token, shown)
    t.deepEqual(second, { active: undefined, error: 'invalid_client', statements })
    const fresh = await assertion()
    const both = await Promise.all([ask(token, fresh), ask(token, fresh)])
    t.is(both.filter(({ error }) => error === 'invalid_client').length, 1)
  }
})

test.serial('a JWT access token that was revoked is not active, and others are', async (t) => {
  const [one, other] = [await issue(), await issue()]
  t.is((await revoke(one.access_token)).status, 200)
  t.deepEqual((await introspect(one.access_token)).body, { active: false })
  t.true((await introspect(other.access_token)).body.active)
})

test.serial("another client's JWT access token cannot be revoked", async (t) => {
  const { access_token } = await issue()
  t.is((await revoke(access_token, resource)).status, 200)
  t.true((await introspect(access_token)).body.active)
})

for (const revoked of ['refresh_token', 'access_token'] as const) {
  test.serial(`ends the family of a revoked ${revoked}, and no other of the grant`, async (t) => {
    const person = createPerson(server)
    const chain = async () => {
      const asked = { redirect_uri, scope: 'openid offline_access', prompt: 'consent' }
      const { exchange } = await obtainCode(person, client, asked)
      const first = await issue(exchange)
      return { first, second: await issue(refreshing(client, first.refresh_token)) }
    }
    const [one, other] = [await chain(), await chain()]
    t.is((await revoke(one.second[revoked])).status, 200)
    for (const token of [one.first.access_token, one.second.access_token]) {
      t.deepEqual((await introspect(token)).body, { active: false })
    }
    t.is((await issue(refreshing(client, one.second.refresh_token))).error, 'invalid_grant')
    for (const token of [other.first.access_token, other.second.access_token]) {
      t.true((await introspect(token)).body.active)
    }
    t.truthy((await issue(refreshing(client, other.second.refresh_token))).access_token)

    await server.flushAudit()
    const [row] = await query(
      server.databaseUrl,
      `select account, client, details->>'credential' as credential, details->>'cause' as cause,
              details->>'family' is not null as "hasFamily"
         from audit_events where event = 'grant.ended' order by id desc limit 1`,
    )
    const account = (await server.storage.accounts.findByEmail(email))?.account.id
    t.deepEqual(row, {
      account,
      client: client.client_id,
      credential: revoked,
      cause: 'revoked',
      hasFamily: true,
    })
  })
}

test.serial('the tokens of a disabled account are not active', async (t) => {
  const { jwt } = await signIn()
  const id = (await server.storage.accounts.findByEmail(email))?.account.id ?? ''
  await server.storage.accounts.setDisabled(id, true)
  const seen = [
    (await introspect(jwt.access_token)).body,
    (await introspect(jwt.refresh_token)).body,
  ]
  await server.storage.accounts.setDisabled(id, false)
  t.deepEqual(seen, [{ active: false }, { active: false }])
  t.true((await introspect(jwt.access_token)).body.active)
})

test.serial('JWTs that this server has not signed as access tokens are not active', async (t) => {
  const claims = { jti: '1', client_id: client.client_id, sub: client.client_id }
  const forged = await new SignJWT(claims)
    .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', jwk: await exportJWK(key.publicKey) })
    .setIssuer(server.issuer)
    .setExpirationTime('60s')
    .sign(key.privateKey)
  const { id_token } = (await signIn()).jwt
  for (const token of [forged, id_token, 'a.b.c']) {
    t.deepEqual((await introspect(token)).body, { active: false })
  }
})

test.serial('a public client may ask about its own tokens only', async (t) => {
  const app = await server.addClient()
  const { access_token } = await issue()
  const ask = (token: string) => post(server, '/introspect', { token, client_id: app.client_id })
  t.deepEqual((await ask(access_token)).body, { active: false })
  const { exchange } = await obtainCode(createPerson(server), app)
  const { body } = await post(server, '/token', exchange, { key })
  t.true((await ask(body.access_token)).body.active)
})

test.serial('signs introspection where that is asked for', async (t) => {
  const { access_token } = await issue()
  const type = 'application/token-introspection+jwt'
  const headers = { ...basic(resource), accept: type }
  const { body, headers: answered } = await post(
    server,
    '/introspect',
    { token: access_token },
    { headers },
  )
  t.is(answered.get('content-type'), `${type}; charset=utf-8`)
  const claims = decodeJwt<{ token_introspection: object }>(body)
  t.like(claims, { iss: server.issuer, aud: resource.client_id })
  t.like(claims.token_introspection, { active: true, client_id: client.client_id })
})

test.serial('a secret in the form is that of a client of client_secret_post', async (t) => {
  const posting = await server.addClient({
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    token_endpoint_auth_method: 'client_secret_post',
    application_type: 'web',
  })
  const { client_id, client_secret = '' } = posting
  const form = { grant_type: 'client_credentials', client_id, client_secret }
  t.is((await post(server, '/token', form, { key })).status, 200)
  const wrong = { ...form, client_secret: 'wrong' }
  t.is((await post(server, '/token', wrong, { key })).body.error, 'invalid_client')
  const inHeader = { key, headers: basic(posting) }
  const { body } = await post(server, '/token', { grant_type: 'client_credentials' }, inHeader)
  t.is(body.error, 'invalid_client')
})

test.serial('scripts of a public client may call, and of other origins not', async (t) => {
  const app = await server.addClient({ application_type: 'web', redirect_uris: [redirect_uri] })
  const ask = async (origin: string) => {
    const { exchange } = await obtainCode(createPerson(server), app, { redirect_uri })
    return post(server, '/token', exchange, { key, headers: { origin } })
  }
  const allowed = await ask('https://app.example')
  t.is(allowed.status, 200)
  t.is(allowed.headers.get('access-control-allow-origin'), 'https://app.example')
  t.is(allowed.headers.get('access-control-expose-headers'), 'DPoP-Nonce,WWW-Authenticate')
  const refused = await ask('https://evil.example')
  t.is(refused.body.error, 'invalid_request')
  t.is(refused.headers.get('access-control-allow-origin'), null)
  const preflight = await fetch(`${server.issuer}/token`, {
    method: 'OPTIONS',
    headers: {
      origin: 'https://app.example',
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'dpop',
    },
  })
  t.is(preflight.status, 204)
  t.is(preflight.headers.get('access-control-allow-headers'), 'dpop')
})

test.serial('tells who has tried Basic that it was wrong', async (t) => {
  const wrong = { ...client, client_secret: 'wrong' }
  const { status, headers } = await post(server, '/token', service, { key, headers: basic(wrong) })
  t.is(status, 401)
  t.regex(headers.get('www-authenticate') ?? '', /^Basic realm="http.*", error="invalid_client"/)
})
