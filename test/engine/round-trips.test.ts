import test from 'ava'
import { decodeJwt, exportJWK, SignJWT } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import pg from 'pg'
import type { RequestedMetadata } from '../../src/clients/client-registration.ts'
import type { KeyPair } from '../../src/doctor/proof.ts'
import { createStatementCounter } from '../support/counting.ts'
import { basic, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { api, email, useTestServer } from '../support/server.ts'

const counter = createStatementCounter()
// Clients and APIs are remembered for some seconds, in which a busy machine may not come this far.
const stopped = () => 0
const server = useTestServer(test, {}, { wrap: counter.wrap, now: stopped })
const redirect_uri = 'https://app.example/callback'

let key: KeyPair
let withSecret: ClientMetadata
let withKey: ClientMetadata

test.before(async () => {
  key = await newKey()
  const web: RequestedMetadata = {
    application_type: 'web',
    redirect_uris: [redirect_uri],
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
  }
  withSecret = await server.addClient({
    ...web,
    token_endpoint_auth_method: 'client_secret_basic',
  })
  withKey = await server.addClient({
    ...web,
    token_endpoint_auth_method: 'private_key_jwt',
    jwks: { keys: [await exportJWK(key.publicKey)] },
  })
})

/** A token request by one of the two clients, and the statements it took. */
async function grant(client: ClientMetadata, parameters: Record<string, string>) {
  const { client_id: clientId } = client
  const assertion = () =>
    new SignJWT({ jti: crypto.randomUUID() })
      .setProtectedHeader({ alg: 'ES256' })
      .setIssuer(clientId)
      .setSubject(clientId)
      .setAudience(server.issuer)
      .setExpirationTime('60s')
      .sign(key.privateKey)
  const authenticated =
    client === withKey
      ? {
          client_assertion: await assertion(),
          client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
        }
      : {}
  const headers = client === withSecret ? basic(client) : {}
  counter.names.length = 0
  const answer = await post(server, '/token', { ...parameters, ...authenticated }, { key, headers })
  return { ...answer, statements: [...counter.names] }
}

async function redeemCode(client: ClientMetadata, scope: string) {
  const asked = { redirect_uri, scope, resource: api, prompt: 'consent' }
  const { exchange } = await obtainCode(createPerson(server), client, asked)
  return grant(client, exchange)
}

const service = { grant_type: 'client_credentials', resource: api, scope: 'read' }
const mark = 'replay-mark-once'

test.serial('client credentials by secret are one statement', async (t) => {
  await grant(withSecret, service)
  const { status, statements } = await grant(withSecret, service)
  t.is(status, 200)
  t.deepEqual(statements, [mark])
})

test.serial('client credentials by assertion are one statement as well', async (t) => {
  await grant(withKey, service)
  const { status, statements } = await grant(withKey, service)
  t.is(status, 200)
  t.deepEqual(statements, [mark])
})

test.serial('opaque tokens of client credentials are stored with their mark', async (t) => {
  await grant(withSecret, { grant_type: 'client_credentials' })
  const { status, statements } = await grant(withSecret, { grant_type: 'client_credentials' })
  t.is(status, 200)
  t.deepEqual(statements, ['artifact-close'])
})

// Whether the tokens end with the session or outlive it, and name it both times.
const statements = ['credential-find', 'artifact-close']
for (const scope of ['openid offline_access read', 'openid read']) {
  for (const method of ['secret', 'assertion'] as const) {
    test.serial(`codes and refreshes of ${scope} by ${method} take few statements`, async (t) => {
      const client = method === 'secret' ? withSecret : withKey
      const first = await redeemCode(client, scope)
      t.is(first.status, 200)
      t.deepEqual(first.statements, statements)
      const next = await grant(client, refreshing(client, first.body.refresh_token))
      t.is(next.status, 200)
      t.deepEqual(next.statements, statements)
    })
  }
}

/** A refresh token, and the uid of the session that it comes from. */
async function issued(scope: string) {
  const { body } = await redeemCode(withSecret, scope)
  const token = await server.provider.RefreshToken.find(body.refresh_token)
  return { refreshToken: String(body.refresh_token), sessionUid: token?.sessionUid ?? '' }
}

const refreshForApi = (refreshToken: string) =>
  grant(withSecret, { ...refreshing(withSecret, refreshToken), resource: api })

test.serial('tokens of a session with a key say so without another statement', async (t) => {
  const { refreshToken, sessionUid } = await issued('openid read')
  await server.storage.browserSessions.bind(sessionUid, {
    jkt: 'a thumbprint',
    alg: 'ES256',
    jwk: {},
    challenge: '',
    authorization: undefined,
  })
  const { body, statements: taken } = await refreshForApi(refreshToken)
  t.deepEqual(taken, statements)
  t.is(decodeJwt(body.access_token).session_binding, 'dbsc')
  t.like(decodeJwt(body.id_token), { session_binding: 'dbsc', cnf: { jkt: 'a thumbprint' } })
})

test.serial('a session that ended a moment ago refreshes nothing but offline access', async (t) => {
  const [online, offline] = [
    await issued('openid read'),
    await issued('openid offline_access read'),
  ]
  for (const { sessionUid } of [online, offline]) {
    await server.storage.browserSessions.end(sessionUid)
  }
  const refused = await grant(withSecret, refreshing(withSecret, online.refreshToken))
  t.is(refused.body.error, 'invalid_grant')
  const { status, body } = await refreshForApi(offline.refreshToken)
  t.is(status, 200)
  t.is(decodeJwt(body.access_token).session_binding, 'ended')
})

test.serial('a request with U+0000 in what is stored of it is served', async (t) => {
  const person = createPerson(server)
  const asked = { redirect_uri, scope: 'openid read', resource: api, nonce: 'a\0b' }
  const { exchange } = await obtainCode(person, withSecret, asked)
  const { status, body } = await grant(withSecret, exchange)
  t.is(status, 200)
  const { status: again } = await grant(withSecret, refreshing(withSecret, body.refresh_token))
  t.is(again, 200)
})

test.serial('an account that was disabled a moment ago refreshes nothing', async (t) => {
  const { body } = await redeemCode(withSecret, 'openid offline_access read')
  const account = (await server.storage.accounts.findByEmail(email))?.account
  await server.storage.accounts.setDisabled(account?.id ?? '', true)
  const refused = await grant(withSecret, refreshing(withSecret, body.refresh_token))
  await server.storage.accounts.setDisabled(account?.id ?? '', false)
  t.is(refused.body.error, 'invalid_grant')
  const { status } = await grant(withSecret, refreshing(withSecret, body.refresh_token))
  t.is(status, 200)
})

test.serial('a grant that was removed a moment ago refreshes nothing', async (t) => {
  const { body } = await redeemCode(withSecret, 'openid offline_access read')
  const token = await server.provider.RefreshToken.find(body.refresh_token)
  await server.provider.Grant.adapter.destroy(token?.grantId ?? '')
  const refused = await grant(withSecret, refreshing(withSecret, body.refresh_token))
  t.is(refused.body.error, 'invalid_grant')
})

test.serial('a refresh token ends with its session', async (t) => {
  const { body } = await redeemCode(withSecret, 'openid read')
  const token = await server.provider.RefreshToken.find(body.refresh_token)
  const database = new pg.Client({ connectionString: server.databaseUrl })
  await database.connect()
  const { rowCount } = await database.query(
    "delete from artifacts where kind = 'Session' and uid = $1",
    [token?.sessionUid],
  )
  await database.end()
  t.is(rowCount, 1)
  const refused = await grant(withSecret, refreshing(withSecret, body.refresh_token))
  t.is(refused.body.error, 'invalid_grant')
})
