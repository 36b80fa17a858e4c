import { hash } from 'node:crypto'
import test from 'ava'
import { decodeJwt, exportJWK, SignJWT } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import type { TokenBindingId } from '../../packages/verify/token-binding.ts'
import { changeClient } from '../../src/clients/client-registration.ts'
import type { KeyPair } from '../../src/doctor/proof.ts'
import { basic, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { api, publicClient, useTestServer } from '../support/server.ts'
import {
  behindProxy,
  browserFetch,
  forwarded,
  newId,
  newRsaId,
  unknownKind,
} from '../support/token-binding.ts'

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
const pkceRedirectUri = 'http://127.0.0.1/callback'
let pkceClient: ClientMetadata
let signer: KeyPair

/** The client's key for the server, and the browser's keys for the server and for the client. */
const pkceProvided = newId()
const browser = newId()
const pkceReferred = newId()

const nativeChallenge = { code_challenge: pkceProvided.tbh, code_challenge_method: 'TB-S256' }
const webChallenge = { code_challenge: 'referred_tb', code_challenge_method: 'referred_tb' }

test.before(async () => {
  signer = await newKey()
  const key = { ...(await exportJWK(signer.publicKey)), kid: 'signer' }
  pkceClient = await server.addClient({ binding_method: 'token-binding', jwks: { keys: [key] } })
})

type Parameters = Record<string, string>

/** The same authorization request in each of the ways that it can be made. */
const ways: Record<string, (parameters: Parameters) => Promise<Parameters>> = {
  query: async (parameters) => parameters,
  'pushed request': async (parameters) => push(parameters),
  'request object': async (parameters) => ({
    ...openly(parameters),
    request: await sign(parameters),
  }),
  'pushed request object': async (parameters) => push({ request: await sign(parameters) }),
}

const request = (challenge: Parameters): Parameters => ({
  client_id: pkceClient.client_id,
  response_type: 'code',
  redirect_uri: pkceRedirectUri,
  scope: 'openid',
  ...challenge,
})

const openly = ({ client_id = '', response_type = '', scope = '' }: Parameters) => ({
  client_id,
  response_type,
  scope,
  redirect_uri: pkceRedirectUri,
})

async function sign(parameters: Parameters): Promise<string> {
  return new SignJWT(parameters)
    .setProtectedHeader({ alg: 'ES256', kid: 'signer', typ: 'oauth-authz-req+jwt' })
    .setIssuer(pkceClient.client_id)
    .setAudience(server.issuer)
    .setNotBefore('0s')
    .setExpirationTime('1m')
    .sign(signer.privateKey)
}

async function push(parameters: Parameters, headers: Parameters = {}): Promise<Parameters> {
  const form = { client_id: pkceClient.client_id, ...parameters }
  const { body } = await post(server, '/par', form, { headers })
  if (!body.request_uri) throw Object.assign(new Error('not pushed'), body)
  return {
    client_id: pkceClient.client_id,
    redirect_uri: pkceRedirectUri,
    request_uri: body.request_uri,
  }
}

const authorize = (parameters: Parameters, fetch = browserFetch(browser, pkceReferred)) =>
  createPerson(server, { fetch }).authorize(parameters)

const redeem = (code: string | null, code_verifier: string, proven = forwarded(pkceProvided)) =>
  post(
    server,
    '/token',
    {
      grant_type: 'authorization_code',
      client_id: pkceClient.client_id,
      code: code ?? '',
      redirect_uri: pkceRedirectUri,
      ...(code_verifier && { code_verifier }),
    },
    { headers: proven },
  )

for (const [way, make] of Object.entries(ways)) {
  test(`TB-S256 by ${way}: the code is good for the key of the challenge`, async (t) => {
    const arrived = await authorize(await make(request(nativeChallenge)))
    const code = arrived.searchParams.get('code')
    const refused = await redeem(code, 'provided_tb', forwarded(newId()))
    t.is(refused.body.error, 'invalid_grant')
    t.is((await redeem(code, 'provided_tb')).status, 200)
  })

  test(`referred_tb by ${way}: the code is good for the browser's own ID`, async (t) => {
    const arrived = await authorize(await make(request(webChallenge)))
    const code = arrived.searchParams.get('code')
    t.is((await redeem(code, newId().id)).body.error, 'invalid_grant')
    t.is((await redeem(code, pkceReferred.id)).status, 200)
  })

  test(`referred_tb by ${way} is refused without a referred ID`, async (t) => {
    const arrived = await authorize(await make(request(webChallenge)), browserFetch(browser))
    t.is(arrived.searchParams.get('error'), 'invalid_request')
  })
}

test('the RSA ID of a browser is longer than any verifier of RFC 7636', async (t) => {
  const rsa = newRsaId()
  t.is(rsa.id.length, 354)
  const arrived = await authorize(request(webChallenge), browserFetch(browser, rsa))
  t.is((await redeem(arrived.searchParams.get('code'), rsa.id)).status, 200)
})

test('a person who is signed in already gets a bound code without an interaction', async (t) => {
  const web = { application_type: 'web', redirect_uris: ['https://app.example/cb'] } as const
  const site = await server.addClient({ ...web, binding_method: 'token-binding' })
  const parameters = {
    ...request(webChallenge),
    client_id: site.client_id,
    redirect_uri: web.redirect_uris[0],
  }
  const person = createPerson(server, { fetch: browserFetch(browser, pkceReferred) })
  await person.authorize(parameters)
  const url = `${server.issuer}/authorize?${new URLSearchParams(parameters)}`
  const { url: arrived } = await person.browser.visit(url, { until: parameters.redirect_uri })
  t.truthy(arrived.searchParams.get('code'))
  const silent = createPerson(server, { fetch: browserFetch(browser) })
  const refused = await silent.authorize({ ...parameters, prompt: 'none' })
  t.truthy(refused.searchParams.get('error'))
})

// Redeeming

for (const [name, verifier] of [
  ['nothing', ''],
  ['the hash of the ID', () => pkceReferred.tbh],
  ['the literal of the other method', 'provided_tb'],
  ['the literal of the challenge', 'referred_tb'],
  ["the browser's ID for the server", () => browser.id],
  ['the ID with padding', () => `${pkceReferred.id}=`],
] as const) {
  test(`referred_tb refuses ${name} as verifier, and the code stays good`, async (t) => {
    const code = (await authorize(request(webChallenge))).searchParams.get('code')
    const refused = await redeem(code, typeof verifier === 'string' ? verifier : verifier())
    t.is(refused.body.error, 'invalid_grant')
    t.is((await redeem(code, pkceReferred.id)).status, 200)
  })
}

for (const [name, verifier] of [
  ['nothing', ''],
  ['the ID itself', pkceProvided.id],
  ['the challenge', pkceProvided.tbh],
  ['the literal in other letters', 'Provided_tb'],
] as const) {
  test(`TB-S256 refuses ${name} as verifier, and the code stays good`, async (t) => {
    const code = (await authorize(request(nativeChallenge))).searchParams.get('code')
    t.is((await redeem(code, verifier)).body.error, 'invalid_grant')
    t.is((await redeem(code, 'provided_tb')).status, 200)
  })
}

test('TB-S256 refuses a token request whose referred ID has the key', async (t) => {
  const code = (await authorize(request(nativeChallenge))).searchParams.get('code')
  const refused = await redeem(code, 'provided_tb', forwarded(newId(), pkceProvided))
  t.is(refused.body.error, 'invalid_grant')
})

test('TB-S256 refuses a token request without Token Binding, whatever the client', async (t) => {
  const dpop = await server.addClient()
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson(server), dpop, nativeChallenge)
  const form = { ...exchange, code_verifier: 'provided_tb' }
  t.is((await post(server, '/token', form, { key })).body.error, 'invalid_grant')
  const headers = forwarded(pkceProvided)
  t.is((await post(server, '/token', form, { key, headers })).status, 200)
})

test('TB-S256 hashes the bytes of the ID, and S256 the letters of the verifier', async (t) => {
  const ofLetters = hash('sha256', 'provided_tb', 'base64url')
  const challenge = { code_challenge: ofLetters, code_challenge_method: 'TB-S256' }
  const code = (await authorize(request(challenge))).searchParams.get('code')
  t.is((await redeem(code, 'provided_tb')).body.error, 'invalid_grant')
  const s256 = { code_challenge: pkceProvided.tbh, code_challenge_method: 'S256' }
  const other = (await authorize(request(s256))).searchParams.get('code')
  t.is((await redeem(other, 'provided_tb')).status, 400)
  t.is((await redeem(other, pkceProvided.id)).body.error, 'invalid_grant')
})

// Asking

const malformed: [string, Parameters][] = [
  ['referred_tb without a method, which is plain', { code_challenge: 'referred_tb' }],
  ['TB-S256 without a method, which is plain', { code_challenge: pkceProvided.tbh }],
  ['referred_tb as plain', { code_challenge: 'referred_tb', code_challenge_method: 'plain' }],
  ['referred_tb as S256', { code_challenge: 'referred_tb', code_challenge_method: 'S256' }],
  ['referred_tb as TB-S256', { code_challenge: 'referred_tb', code_challenge_method: 'TB-S256' }],
  ['provided_tb as TB-S256', { code_challenge: 'provided_tb', code_challenge_method: 'TB-S256' }],
  ['a hash as referred_tb', { ...webChallenge, code_challenge: pkceProvided.tbh }],
  ['a method without a challenge', { code_challenge_method: 'referred_tb' }],
  ['a method in other letters', { ...nativeChallenge, code_challenge_method: 'tb-s256' }],
  ['a hash that is too short', { ...nativeChallenge, code_challenge: pkceProvided.tbh.slice(1) }],
  ['a hash that is too long', { ...nativeChallenge, code_challenge: `${pkceProvided.tbh}A` }],
  ['a hash with spare bits', { ...nativeChallenge, code_challenge: `${'A'.repeat(42)}B` }],
]

for (const [way, make] of Object.entries(ways)) {
  for (const [name, challenge] of malformed) {
    test(`${name} is refused by ${way}`, async (t) => {
      const error = await make(request(challenge))
        .then(authorize)
        .then(({ searchParams }) => searchParams.get('error'))
        .catch((pushed) => pushed.error)
      t.is(error, 'invalid_request')
    })
  }
}

test('a request object is what counts, not the query beside it', async (t) => {
  const signedRequest = await sign(request(nativeChallenge))
  const beside = { ...request(webChallenge), request: signedRequest }
  const code = (await authorize(beside)).searchParams.get('code')
  t.is((await redeem(code, pkceReferred.id)).body.error, 'invalid_grant')
  t.is((await redeem(code, 'provided_tb')).status, 200)
})

test('a request object that is not signed is refused', async (t) => {
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const unsigned = `${encode({ alg: 'none' })}.${encode(request(webChallenge))}.`
  const arrived = await authorize({ ...openly(request({})), request: unsigned })
  t.is(arrived.searchParams.get('error'), 'invalid_request_object')
})

test('nothing is bound to a referred key of an unknown kind', async (t) => {
  const arrived = await authorize(request(webChallenge), browserFetch(browser, unknownKind))
  t.is(arrived.searchParams.get('error'), 'invalid_request')
})

test("the referred ID of a pushed request is the client's, and not the browser's", async (t) => {
  const pushed = await push(request(webChallenge), forwarded(pkceProvided, pkceReferred))
  const arrived = await authorize(pushed, browserFetch(browser))
  t.is(arrived.searchParams.get('error'), 'invalid_request')
})

test('the way back from login cannot bring another referred ID', async (t) => {
  const thief = newId()
  const fetchFirst = browserFetch(browser, pkceReferred)
  const alwaysThief: typeof fetch = (url, init) =>
    new URL(String(url)).pathname === '/authorize'
      ? fetchFirst(url, init)
      : fetch(url, {
          ...init,
          headers: { ...(init?.headers as Parameters), ...forwarded(browser, thief) },
        })
  const code = (await authorize(request(webChallenge), alwaysThief)).searchParams.get('code')
  t.is((await redeem(code, thief.id)).body.error, 'invalid_grant')
  t.is((await redeem(code, pkceReferred.id)).status, 200)
})

test.after('nothing of this was an error of the server', (t) => {
  t.deepEqual(
    server.logged.filter((line) => line.includes('server_error')),
    [],
  )
})
const idTokenProvided = newId()
const idTokenReferred = newId()
const proven = { headers: forwarded(idTokenProvided) }

let idTokenClient: ClientMetadata

test.before(async () => {
  idTokenClient = await server.addClient({
    binding_method: 'token-binding',
    id_token_token_binding_cnf: 'tbh',
  })
})

const person = (fetch = browserFetch(browser, idTokenReferred)) => createPerson(server, { fetch })

test("an ID token is bound to the browser's key for the client", async (t) => {
  const { exchange } = await obtainCode(person(), idTokenClient)
  const { body } = await post(server, '/token', exchange, proven)
  t.deepEqual(decodeJwt(body.id_token).cnf, { tbh: idTokenReferred.tbh })
})

test('neither key of the token request binds the ID token', async (t) => {
  const { exchange } = await obtainCode(person(), idTokenClient)
  const { body } = await post(server, '/token', exchange, {
    headers: forwarded(idTokenProvided, newId()),
  })
  t.deepEqual(decodeJwt(body.id_token).cnf, { tbh: idTokenReferred.tbh })
})

test('the ID tokens of refreshes stay bound to it', async (t) => {
  const { exchange } = await obtainCode(person(), idTokenClient)
  const { body: first } = await post(server, '/token', exchange, proven)
  const refresh = (token: string) =>
    post(server, '/token', refreshing(idTokenClient, token), proven)
  const { body: second } = await refresh(first.refresh_token)
  const { body: third } = await refresh(second.refresh_token)
  t.deepEqual(decodeJwt(third.id_token).cnf, { tbh: idTokenReferred.tbh })
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
  t.deepEqual(decodeJwt(front.get('id_token') ?? '').cnf, { tbh: idTokenReferred.tbh })
  const exchange = {
    grant_type: 'authorization_code',
    client_id: hybrid.client_id,
    code: front.get('code') ?? '',
    code_verifier: verifier,
    redirect_uri,
  }
  const { body } = await post(server, '/token', exchange, proven)
  t.deepEqual(decodeJwt(body.id_token).cnf, { tbh: idTokenReferred.tbh })
})

test('ID tokens can be bound whatever the tokens of the client are bound by', async (t) => {
  const dpop = await server.addClient({ id_token_token_binding_cnf: 'tbh' })
  const { exchange } = await obtainCode(person(), dpop)
  const { body } = await post(server, '/token', exchange, { key: await newKey() })
  t.is(body.token_type, 'DPoP')
  t.deepEqual(decodeJwt(body.id_token).cnf, { tbh: idTokenReferred.tbh })
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
    await t.throwsAsync(obtainCode(person(fetch), idTokenClient), {
      message: /error=invalid_request/,
    })
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

const renewalServer = useTestServer(test, { ...behindProxy, HOLDFAST_KEY_OVERLAP_HOURS: '24' })

async function newRefreshable() {
  const client = await renewalServer.addClient({ binding_method: 'token-binding' })
  const { exchange } = await obtainCode(createPerson(renewalServer), client)
  const old = newId()
  const { body } = await post(renewalServer, '/token', exchange, { headers: forwarded(old) })
  const refresh = (token: string, key: typeof old, parameters: Record<string, string> = {}) =>
    post(
      renewalServer,
      '/token',
      { ...refreshing(client, token), ...parameters },
      { headers: forwarded(key) },
    )
  return { old, token: body.refresh_token as string, refresh }
}

test('a key that was named by the one before takes over', async (t) => {
  const { old, token, refresh } = await newRefreshable()
  const next = newId()
  const { body: named } = await refresh(token, old, { successor: next.tbh })
  const { body: taken } = await refresh(named.refresh_token, next)
  t.is((await refresh(taken.refresh_token, old)).body.error, 'invalid_grant')
  t.is((await refresh(taken.refresh_token, next)).status, 200)
})

test('a key that nobody named does not, nor can it name itself', async (t) => {
  const { old, token, refresh } = await newRefreshable()
  const thief = newId()
  const refused = await refresh(token, thief, { successor: thief.tbh })
  t.is(refused.body.error, 'invalid_grant')
  t.is((await refresh(token, thief)).body.error, 'invalid_grant')
  t.is((await refresh(token, old)).status, 200)
})

test('a successor is named by its tbh', async (t) => {
  const { old, token, refresh } = await newRefreshable()
  t.is((await refresh(token, old, { successor: newId().id })).body.error, 'invalid_request')
  t.is((await refresh(token, old)).status, 200)
})
