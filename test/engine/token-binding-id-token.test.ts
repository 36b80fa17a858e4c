import { hash } from 'node:crypto'
import test from 'ava'
import { decodeJwt } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { useTestServer } from '../support/server.ts'
import {
  behindProxy,
  browserFetch,
  forwarded,
  newId,
  unknownKind,
} from '../support/token-binding.ts'

const server = useTestServer(test, behindProxy)
const provided = newId()
const browser = newId()
const referred = newId()
const proven = { headers: forwarded(provided) }

let client: ClientMetadata

test.before(async () => {
  client = await server.addClient({
    binding_method: 'token-binding',
    id_token_token_binding_cnf: 'tbh',
  })
})

const person = (fetch = browserFetch(browser, referred)) => createPerson(server, { fetch })

test("an ID token is bound to the browser's key for the client", async (t) => {
  const { exchange } = await obtainCode(person(), client)
  const { body } = await post(server, '/token', exchange, proven)
  t.deepEqual(decodeJwt(body.id_token).cnf, { tbh: referred.tbh })
})

test('neither key of the token request binds the ID token', async (t) => {
  const { exchange } = await obtainCode(person(), client)
  const { body } = await post(server, '/token', exchange, { headers: forwarded(provided, newId()) })
  t.deepEqual(decodeJwt(body.id_token).cnf, { tbh: referred.tbh })
})

test('the ID tokens of refreshes stay bound to it', async (t) => {
  const { exchange } = await obtainCode(person(), client)
  const { body: first } = await post(server, '/token', exchange, proven)
  const refresh = (token: string) => post(server, '/token', refreshing(client, token), proven)
  const { body: second } = await refresh(first.refresh_token)
  const { body: third } = await refresh(second.refresh_token)
  t.deepEqual(decodeJwt(third.id_token).cnf, { tbh: referred.tbh })
})

test('both ID tokens of a hybrid flow are bound to it', async (t) => {
  const redirect_uri = 'https://app.example/callback'
  const hybrid = await server.addClient({
    application_type: 'web',
    redirect_uris: [redirect_uri],
    response_types: ['code id_token'],
    grant_types: ['authorization_code', 'implicit'],
    binding_method: 'token-binding',
    id_token_token_binding_cnf: 'tbh',
  })
  const verifier = 'v'.repeat(43)
  const arrived = await person().authorize({
    client_id: hybrid.client_id,
    response_type: 'code id_token',
    redirect_uri,
    scope: 'openid',
    nonce: 'n',
    code_challenge: hash('sha256', verifier, 'base64url'),
    code_challenge_method: 'S256',
  })
  const front = new URLSearchParams(arrived.hash.slice(1))
  t.deepEqual(decodeJwt(front.get('id_token') ?? '').cnf, { tbh: referred.tbh })
  const exchange = {
    grant_type: 'authorization_code',
    client_id: hybrid.client_id,
    code: front.get('code') ?? '',
    code_verifier: verifier,
    redirect_uri,
  }
  const { body } = await post(server, '/token', exchange, proven)
  t.deepEqual(decodeJwt(body.id_token).cnf, { tbh: referred.tbh })
})

test('ID tokens can be bound whatever the tokens of the client are bound by', async (t) => {
  const dpop = await server.addClient({ id_token_token_binding_cnf: 'tbh' })
  const { exchange } = await obtainCode(person(), dpop)
  const { body } = await post(server, '/token', exchange, { key: await newKey() })
  t.is(body.token_type, 'DPoP')
  t.deepEqual(decodeJwt(body.id_token).cnf, { tbh: referred.tbh })
})

test('a client that did not ask gets no confirmation', async (t) => {
  const silent = await server.addClient({ binding_method: 'token-binding' })
  const { exchange } = await obtainCode(person(), silent)
  const { body } = await post(server, '/token', exchange, proven)
  t.is(decodeJwt(body.id_token).cnf, undefined)
})

for (const [name, fetch] of [
  ['without a referred ID', browserFetch(browser)],
  ['with a referred key of an unknown kind', browserFetch(browser, unknownKind)],
  ['without Token Binding', globalThis.fetch],
] as const) {
  test(`a browser ${name} gets no unbound ID token instead`, async (t) => {
    await t.throwsAsync(obtainCode(person(fetch), client), { message: /error=invalid_request/ })
  })
}

test('a sign-in from before the client asked is refreshed to no unbound ID token', async (t) => {
  const changing = await server.addClient({ binding_method: 'token-binding' })
  const { exchange } = await obtainCode(person(), changing)
  const { body } = await post(server, '/token', exchange, proven)
  await server.storage.clients.remove(changing.client_id)
  await server.addClient({
    client_id: changing.client_id,
    binding_method: 'token-binding',
    id_token_token_binding_cnf: 'tbh',
  })
  const refresh = refreshing(changing, body.refresh_token)
  t.is((await post(server, '/token', refresh, proven)).body.error, 'invalid_grant')
})
