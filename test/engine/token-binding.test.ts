import test from 'ava'
import { decodeJwt } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import type { TokenBindingId } from '../../packages/verify/token-binding.ts'
import { changeClient } from '../../src/clients/client-registration.ts'
import { basic, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { api, publicClient, useTestServer } from '../support/server.ts'
import { behindProxy, forwarded, newId, unknownKind } from '../support/token-binding.ts'

const server = useTestServer(test, behindProxy)
const web = { application_type: 'web', redirect_uris: ['https://app.example/callback'] } as const
const redirect_uri = web.redirect_uris[0]

let client: ClientMetadata
let confidential: ClientMetadata
let service: ClientMetadata
let provided: TokenBindingId
let referred: TokenBindingId
let both: { headers: Record<string, string> }
let onlyProvided: typeof both
let otherProvided: typeof both
let swapped: typeof both

test.before(async () => {
  client = await server.addClient({ binding_method: 'token-binding' })
  confidential = await server.addClient({
    ...web,
    binding_method: 'token-binding',
    token_endpoint_auth_method: 'client_secret_basic',
  })
  service = await server.addClient({
    binding_method: 'token-binding',
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    token_endpoint_auth_method: 'client_secret_basic',
  })
  provided = newId()
  referred = newId()
  both = { headers: forwarded(provided, referred) }
  onlyProvided = { headers: forwarded(provided) }
  otherProvided = { headers: forwarded(newId(), referred) }
  swapped = { headers: forwarded(referred, provided) }
})

const codeForApi = async (scope = 'openid read') => {
  const { exchange } = await obtainCode(createPerson(server), client, { scope, resource: api })
  return { ...exchange, resource: api }
}
const issued = async () => (await post(server, '/token', await codeForApi(), both)).body
const introspect = async (token: string, accept = 'application/json') => {
  const headers = { ...basic(confidential), accept }
  return (await post(server, '/introspect', { token }, { headers })).body
}

// Metadata

test('the metadata names what is supported, as the drafts do', async (t) => {
  const answer = await fetch(`${server.issuer}/.well-known/openid-configuration`)
  t.like(await answer.json(), {
    as_access_token_token_binding_supported: true,
    as_refresh_token_token_binding_supported: true,
    id_token_token_binding_cnf_values_supported: ['tbh'],
    code_challenge_methods_supported: ['S256', 'TB-S256', 'referred_tb'],
  })
})

test('the binding method and the flags of the draft say the same', async (t) => {
  const flags = {
    client_access_token_token_binding_supported: true,
    client_refresh_token_token_binding_supported: true,
  }
  t.like(client, flags)
  t.is((await server.addClient(flags)).binding_method, 'token-binding')
  t.like(await server.addClient({ binding_method: 'dpop' }), {
    client_access_token_token_binding_supported: false,
    client_refresh_token_token_binding_supported: false,
  })
  for (const flag of Object.keys(flags)) {
    await t.throwsAsync(server.addClient({ binding_method: 'dpop', [flag]: true }), {
      code: 'invalid_client_metadata',
    })
  }
  await t.throwsAsync(server.addClient({ id_token_token_binding_cnf: 'tbh#S512' }), {
    code: 'invalid_client_metadata',
  })
})

// Issuing

test('an access token is bound to the referred ID, the refresh token to the provided one', async (t) => {
  const { status, body } = await post(server, '/token', await codeForApi(), both)
  t.is(status, 200)
  t.is(body.token_type, 'Bearer')
  t.deepEqual(decodeJwt(body.access_token).cnf, { tbh: referred.tbh })
  t.deepEqual((await introspect(body.refresh_token)).cnf, { tbh: provided.tbh })
})

test('an access token for this server is bound to the provided ID', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body } = await post(server, '/token', exchange, both)
  t.deepEqual((await introspect(body.access_token)).cnf, { tbh: provided.tbh })
})

test('a token request without Token Binding is refused before the code is looked up', async (t) => {
  const exchange = await codeForApi()
  const refused = await post(server, '/token', exchange)
  t.is(refused.status, 400)
  t.is(refused.body.error, 'invalid_grant')
  const unknown = await post(server, '/token', { ...exchange, code: 'unknown' })
  t.deepEqual(unknown.body, refused.body)
  t.is((await post(server, '/token', exchange, both)).status, 200)
})

test('a DPoP proof is not the proof of a client of Token Binding', async (t) => {
  const refused = await post(server, '/token', await codeForApi(), { key: await newKey() })
  t.is(refused.body.error, 'invalid_grant')
})

test('a resource that is named needs a referred ID before the code is looked up', async (t) => {
  const exchange = await codeForApi()
  const refused = await post(server, '/token', exchange, onlyProvided)
  t.is(refused.body.error, 'invalid_grant')
  const unknown = await post(server, '/token', { ...exchange, code: 'unknown' }, onlyProvided)
  t.deepEqual(unknown.body, refused.body)
  t.is((await post(server, '/token', exchange, both)).status, 200)
})

test('a resource that only the code knows needs a referred ID, and burns nothing', async (t) => {
  const { resource: _, ...exchange } = await codeForApi('read')
  const refused = await post(server, '/token', exchange, onlyProvided)
  t.is(refused.body.error, 'invalid_grant')
  const { body } = await post(server, '/token', exchange, both)
  t.deepEqual(decodeJwt(body.access_token).cnf, { tbh: referred.tbh })
})

test('nothing is issued for a referred key of an unknown kind', async (t) => {
  const headers = forwarded(provided, unknownKind)
  const refused = await post(server, '/token', await codeForApi(), { headers })
  t.is(refused.body.error, 'invalid_grant')
})

test('the tokens of a confidential client are bound as well', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), confidential, { redirect_uri })
  const headers = { ...basic(confidential), ...forwarded(provided) }
  const { body } = await post(server, '/token', exchange, { headers })
  t.deepEqual((await introspect(body.refresh_token)).cnf, { tbh: provided.tbh })
  const refresh = refreshing(confidential, body.refresh_token)
  const other = { ...basic(confidential), ...forwarded(newId()) }
  t.is((await post(server, '/token', refresh, { headers: other })).body.error, 'invalid_grant')
  t.is((await post(server, '/token', refresh, { headers })).status, 200)
})

test('a service gets tokens bound to the key of their resource, and none without', async (t) => {
  const parameters = { grant_type: 'client_credentials', scope: 'read' }
  const forApi = { ...parameters, resource: api }
  const ask = (form: Record<string, string>, proven: Record<string, string>) =>
    post(server, '/token', form, { headers: { ...basic(service), ...proven } })
  const { body } = await ask(forApi, forwarded(provided, referred))
  t.deepEqual(decodeJwt(body.access_token).cnf, { tbh: referred.tbh })
  const { body: own } = await ask(
    { grant_type: 'client_credentials' },
    forwarded(provided, referred),
  )
  t.deepEqual((await introspect(own.access_token)).cnf, { tbh: provided.tbh })
  t.is((await ask(forApi, forwarded(provided))).body.error, 'invalid_grant')
  t.is((await ask(forApi, {})).body.error, 'invalid_grant')
})

// Refreshing

for (const [name, proven] of [
  ['another provided ID', () => otherProvided],
  ['the provided and referred IDs swapped', () => swapped],
  ['no Token Binding', () => ({ headers: {} })],
] as const) {
  test(`a refresh with ${name} is invalid_grant and consumes nothing`, async (t) => {
    const { refresh_token } = await issued()
    const refresh = { ...refreshing(client, refresh_token), resource: api }
    t.is((await post(server, '/token', refresh, proven())).body.error, 'invalid_grant')
    t.is((await post(server, '/token', refresh, both)).status, 200)
  })
}

test('a refresh binds the new tokens, each to its own ID', async (t) => {
  const { refresh_token } = await issued()
  const refresh = { ...refreshing(client, refresh_token), resource: api }
  const next = newId()
  const headers = forwarded(provided, next)
  const { body } = await post(server, '/token', refresh, { headers })
  t.deepEqual(decodeJwt(body.access_token).cnf, { tbh: next.tbh })
  t.deepEqual((await introspect(body.refresh_token)).cnf, { tbh: provided.tbh })
})

const change = ({ client_id }: ClientMetadata, binding_method: string) =>
  changeClient(
    client_id,
    { ...publicClient, binding_method },
    { table: server.storage.clients, validator: server.provider },
  )

test('a refresh token stays bound when its client changes to another method', async (t) => {
  const changing = await server.addClient({ binding_method: 'token-binding' })
  const { exchange } = await obtainCode(createPerson(server), changing)
  const { body: first } = await post(server, '/token', exchange, both)
  await change(changing, 'bearer')
  const refresh = (token: string, options: typeof both) =>
    post(server, '/token', refreshing(changing, token), options)
  const { body: second } = await refresh(first.refresh_token, onlyProvided)
  t.deepEqual((await introspect(second.refresh_token)).cnf, { tbh: provided.tbh })
  const refused = await refresh(second.refresh_token, { headers: {} })
  t.is(refused.body.error, 'invalid_grant')
})

test('a refresh token of bearer days is refused once the client is bound', async (t) => {
  const changing = await server.addClient({ binding_method: 'bearer' })
  const { exchange } = await obtainCode(createPerson(server), changing)
  const { body } = await post(server, '/token', exchange)
  await change(changing, 'token-binding')
  const refused = await post(server, '/token', refreshing(changing, body.refresh_token), both)
  t.is(refused.body.error, 'invalid_grant')
})

test('a code that is redeemed twice by its key is still used once', async (t) => {
  const exchange = await codeForApi()
  t.is((await post(server, '/token', exchange, both)).status, 200)
  t.is((await post(server, '/token', exchange, both)).body.error, 'invalid_grant')
})

// Using

const userinfo = (token: string, headers: Record<string, string>) =>
  fetch(`${server.issuer}/userinfo`, { headers: { authorization: `Bearer ${token}`, ...headers } })

test('userinfo answers the key that the token is bound to, and no other', async (t) => {
  const { exchange } = await obtainCode(createPerson(server), client)
  const { body } = await post(server, '/token', exchange, both)
  t.is((await userinfo(body.access_token, forwarded(provided))).status, 200)
  for (const headers of [forwarded(referred, provided), {}]) {
    const refused = await userinfo(body.access_token, headers)
    t.is(refused.status, 401)
    t.regex(refused.headers.get('www-authenticate') ?? '', /error="invalid_token"/)
  }
})

test('signed introspection shows the binding too', async (t) => {
  const { refresh_token } = await issued()
  const signed = await introspect(refresh_token, 'application/token-introspection+jwt')
  const { token_introspection } = decodeJwt<{ token_introspection: object }>(signed)
  t.like(token_introspection, { active: true, cnf: { tbh: provided.tbh } })
})

test('an answer about a token that is not active says nothing of its key', async (t) => {
  t.deepEqual(await introspect('unknown'), { active: false })
})

// The edge

for (const [name, headers] of [
  ['a malformed ID', { 'sec-provided-token-binding-id': 'x' }],
  ['a referred ID alone', { 'sec-referred-token-binding-id': newId().id }],
  ['a list of IDs', { 'sec-provided-token-binding-id': `${newId().id}, ${newId().id}` }],
] as const) {
  test(`${name} from a trusted proxy is refused`, async (t) => {
    const refused = await post(server, '/token', await codeForApi(), { headers })
    t.is(refused.status, 400)
    t.is(refused.body.error, 'invalid_request')
  })
}

test('a Sec-Token-Binding field behind the proxy is not looked at', async (t) => {
  const headers = { ...both.headers, 'sec-token-binding': 'AIkAAgBB' }
  t.is((await post(server, '/token', await codeForApi(), { headers })).status, 200)
})
