import { randomUUID } from 'node:crypto'
import test from 'ava'
import { exportJWK, SignJWT } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import { createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { race } from '../support/lock.ts'
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
