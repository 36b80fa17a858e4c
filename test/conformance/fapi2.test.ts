/**
 * What modules of the OpenID Foundation's plans for FAPI 2.0 look for, written from the
 * specifications. docs/conformance.md has the list of modules.
 */
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import test from 'ava'
import {
  CompactEncrypt,
  compactDecrypt,
  createLocalJWKSet,
  decodeJwt,
  exportJWK,
  generateKeyPair,
  jwtVerify,
  SignJWT,
} from 'jose'
import { RegistrationError } from '../../src/clients/client-registration.ts'
import { cibaGrant } from '../../src/clients/grant-types.ts'
import { takeFirstSteps } from '../../src/commands/first-steps.ts'
import { deviceGrant } from '../support/device-flow.ts'
import { createPerson, post } from '../support/flow.ts'
import { makeSigningKey } from '../support/jws.ts'
import { email, publicClient, useTestServer } from '../support/server.ts'
import { Fapi2Client, nowS } from './fapi2-client.ts'

const server = useTestServer(test, { HOLDFAST_DEVICE_FLOW: 'on' })
const lenient = useTestServer(test, {
  HOLDFAST_DANGEROUSLY_ACCEPT_ENDPOINTS_AS_AUDIENCE: 'on',
  HOLDFAST_CLOCK_TOLERANCE_SECONDS: '60',
})
const profiled = useTestServer(test, { HOLDFAST_PROFILE: 'fapi2' })
let client: Fapi2Client

const grant_types = ['authorization_code', 'refresh_token', 'client_credentials', deviceGrant]

test.before(async () => {
  client = await new Fapi2Client(server).register({ grant_types })
})

/** Every endpoint at which clients authenticate, with parameters that are good there. */
const authenticated: Record<string, (by: Fapi2Client) => Record<string, string>> = {
  '/par': (by) => by.request(),
  '/token': () => ({ grant_type: 'client_credentials' }),
  '/introspect': () => ({ token: 'none' }),
  '/revoke': () => ({ token: 'none' }),
  '/device_authorization': (by) => ({ client_id: by.id, scope: 'openid' }),
}

test('accepts the issuer alone as audience of a client assertion, at every endpoint', async (t) => {
  const { issuer } = server
  for (const [path, parameters] of Object.entries(authenticated)) {
    const ask = (aud: unknown) =>
      client.post(path, { ...parameters(client), ...client.assertion({ aud }) })
    t.true((await ask(issuer)).status < 300, path)
    const wrong = [`${issuer}/token`, issuer + path, [issuer], [issuer + path, issuer], undefined]
    for (const aud of wrong) {
      const { status, body } = await ask(aud)
      t.is(body.error, 'invalid_client', `${path} ${aud}`)
      t.is(status, 401)
    }
  }
})

test('accepts JWTs of 8 seconds ahead, and none of over 60, at every endpoint', async (t) => {
  for (const [path, parameters] of Object.entries(authenticated)) {
    const assert = (claims: object) =>
      client.post(path, { ...parameters(client), ...client.assertion({ ...claims }) })
    const soon = nowS() + 8
    t.true((await assert({ iat: soon, nbf: soon })).status < 300, path)
    for (const claims of [{ iat: nowS() + 90 }, { nbf: nowS() + 90 }, { exp: nowS() - 300 }]) {
      t.is((await assert(claims)).body.error, 'invalid_client', path)
    }
    if (path === '/introspect' || path === '/revoke') continue
    const prove = (iat: number) =>
      client.post(path, parameters(client), client.proof(path, { iat }))
    t.true((await prove(nowS() + 8)).status < 300, path)
    t.is((await prove(nowS() + 90)).body.error, 'use_dpop_nonce', path)
  }
})

test('accepts endpoints as audience, and 50 seconds, where an operator allows them', async (t) => {
  const old = await new Fapi2Client(lenient).register({ grant_types: grant_types.slice(0, 3) })
  for (const path of ['/par', '/token'] as const) {
    const ask = (aud: unknown, iat = nowS() + 50) =>
      old.post(path, { ...authenticated[path]?.(old), ...old.assertion({ aud, iat }) })
    t.true((await ask(`${lenient.issuer}/token`)).status < 300)
    t.is((await ask([lenient.issuer])).body.error, 'invalid_client')
    t.is((await ask('https://other.example')).body.error, 'invalid_client')
    t.is((await ask(lenient.issuer, nowS() + 90)).body.error, 'invalid_client')
  }
})

test('accepts endpoints as audience of one client that an administrator excuses', async (t) => {
  const excused = await new Fapi2Client(server).register({ grant_types, endpoint_audience: true })
  for (const [path, parameters] of Object.entries(authenticated)) {
    const ask = (aud: unknown) =>
      excused.post(path, { ...parameters(excused), ...excused.assertion({ aud }) })
    t.true((await ask(`${server.issuer}/token`)).status < 300, path)
    t.true((await ask(server.issuer + path)).status < 300, path)
    t.is((await ask([server.issuer])).body.error, 'invalid_client', path)
    t.is((await ask('https://other.example/token')).body.error, 'invalid_client', path)
  }
})

test('takes request objects that end within an hour', async (t) => {
  const now = nowS()
  const error = async (claims: object) => {
    const { status, body } = await client.push(client.requestObject({ ...claims }))
    return status === 201 ? undefined : body.error
  }
  for (const nbf of [0, 8, -3590]) {
    const now = nowS()
    t.is(await error({ nbf: now + nbf, exp: now + 5 }), undefined, `${nbf}`)
  }
  t.is(await error({ aud: [server.issuer, 'b'] }), undefined)
  const wrong = {
    'without exp': { exp: undefined },
    'without nbf': { nbf: undefined },
    'of the past': { exp: now - 300 },
    'good for more than an hour': { nbf: now, exp: now + 3700 },
    'of more than an hour ago': { nbf: now - 3700, exp: now - 60 },
    'with nbf more than an hour ago': { nbf: now - 3700, exp: now - 100 + 60 },
    'of the future': { nbf: now + 90, exp: now + 300 },
    'for another server': { aud: 'https://other.example' },
  }
  for (const [what, claims] of Object.entries(wrong)) {
    t.is(await error(claims), 'invalid_request_object', what)
  }
})

test('rejects a client that contradicts the profile, with the clause', async (t) => {
  const contradictions: [object, RegExp][] = [
    [{ token_endpoint_auth_method: 'none' }, /5\.3\.2\.1/],
    [{ token_endpoint_auth_method: 'client_secret_basic' }, /5\.3\.2\.1 number 6/],
    [{ binding_method: 'bearer' }, /5\.3\.2\.1 number 5/],
    [{ endpoint_audience: true }, /5\.3\.2\.1 number 8/],
    [{ binding_method: 'token-binding' }, /5\.3\.2\.1 number 5/],
    [{ refresh_tokens: 'rotate' }, /5\.3\.2\.1 number 9/],
    [{ response_types: ['code id_token'] }, /5\.3\.2\.2 number 1/],
    [{ require_pushed_authorization_requests: false }, /5\.3\.2\.2 number 3/],
    [{ id_token_signed_response_alg: 'RS256' }, /5\.4\.1/],
    [{ token_endpoint_auth_signing_alg: 'RS256' }, /5\.4\.1/],
    [{ profile: 'fapi1' }, /profile must be one of fapi2/],
    [{ refresh_tokens: 'burn' }, /refresh_tokens must be one of/],
  ]
  for (const [changes, clause] of contradictions) {
    const registering = new Fapi2Client(server).register({ profile: 'fapi2', ...changes })
    const error = await t.throwsAsync<RegistrationError>(registering, { message: clause })
    t.is(error?.code, 'invalid_client_metadata')
  }
  const keeping = server.addClient({ ...publicClient, refresh_tokens: 'keep' })
  await t.throwsAsync(keeping, { instanceOf: RegistrationError, message: /RFC 9700/ })
})

test('holds every client of a server to the profile', async (t) => {
  const { issuer, storage } = profiled
  const response = await fetch(`${issuer}/.well-known/openid-configuration`)
  const metadata = (await response.json()) as Record<string, string[]>
  t.like(metadata as Record<string, unknown>, {
    require_pushed_authorization_requests: true,
    response_types_supported: ['code'],
    token_endpoint_auth_methods_supported: ['private_key_jwt'],
    authorization_response_iss_parameter_supported: true,
    code_challenge_methods_supported: ['S256'],
    dpop_bound_access_tokens_required: true,
  })
  for (const name of ['token_endpoint_auth', 'dpop', 'id_token', 'request_object']) {
    t.false(metadata[`${name}_signing_alg_values_supported`]?.includes('RS256'), name)
  }
  // A first start makes no client that the server would refuse.
  const config = { issuer, protocol: { profile: 'fapi2' } } as const
  const first = await takeFirstSteps(config, storage, profiled.provider, () => {})
  t.like(first, { hasAccounts: true, clientId: undefined })
  const registered = await new Fapi2Client(profiled).register()
  const stored = await storage.clients.find(registered.id)
  t.is(stored?.id_token_signed_response_alg, 'ES256')
  // Registered before the server had a profile.
  const old = { ...publicClient, client_id: 'old', binding_method: 'dpop' }
  await storage.clients.insert(old as never)
  const stranger = new Fapi2Client(profiled, 'old')
  const parameters = { client_id: 'old', grant_type: 'client_credentials' }
  const proof = stranger.proof('/token')
  const { status, body } = await post(profiled, '/token', parameters, { proof })
  t.is(status, 401)
  t.regex(body.error_description, /FAPI 2\.0: .*5\.3\.2\.1 number 6/)
})

test('takes authorization requests by PAR alone, from a client that authenticates', async (t) => {
  const by = await new Fapi2Client(server).register({ profile: 'fapi2' })
  const arrived = await createPerson(server).authorize(by.request())
  t.is(arrived.searchParams.get('error'), 'invalid_request')
  t.is(arrived.searchParams.get('iss'), server.issuer)
  const parameters = { proof: by.proof('/par') }
  t.is((await post(server, '/par', by.request(), parameters)).body.error, 'invalid_client')
  t.true((await by.push()).body.expires_in < 600)
  const plain = { code_challenge_method: 'plain' }
  t.is((await by.push(by.request(plain))).body.error, 'invalid_request')
})

test('rejects RS256 of a client of the profile, and takes PS256', async (t) => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const jwk = { ...rsa.publicKey.export({ format: 'jwk' }), kid: 'rsa' }
  const by = await new Fapi2Client(server).register({
    profile: 'fapi2',
    grant_types: [...grant_types, cibaGrant],
    jwks: { keys: [jwk] },
  })
  const { privateKey } = rsa
  const sign = (alg: string, claims: object) =>
    new SignJWT({ ...claims }).setProtectedHeader({ alg, kid: 'rsa' }).sign(privateKey)
  const assertion = async (alg: string) => ({
    client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    client_assertion: await sign(alg, decodeJwt(by.assertion().client_assertion ?? '')),
  })
  for (const [path, parameters] of Object.entries(authenticated)) {
    const ask = async (alg: string) =>
      by.post(path, { ...parameters(by), ...(await assertion(alg)) })
    t.true((await ask('PS256')).status < 300, path)
    t.is((await ask('RS256')).body.error, 'invalid_client', path)
  }
  const request = async (alg: string) => ({
    client_id: by.id,
    request: await sign(alg, decodeJwt(by.requestObject().request ?? '')),
    ...(await assertion('PS256')),
  })
  t.is((await by.push(await request('PS256'))).status, 201)
  t.is((await by.push(await request('RS256'))).body.error, 'invalid_request_object')
  // FAPI-CIBA section 7.10.
  const asked = { scope: 'openid', login_hint: email, binding_message: 'Signed by RSA' }
  const times = { iat: nowS(), nbf: nowS(), exp: nowS() + 300 }
  const names = { iss: by.id, aud: server.issuer }
  const backchannel = async (alg: string) =>
    by.post('/backchannel', {
      request: await sign(alg, { ...asked, ...times, ...names, jti: randomUUID() }),
      ...(await assertion('PS256')),
    })
  t.is((await backchannel('PS256')).status, 200)
  t.is((await backchannel('RS256')).body.error, 'invalid_request')
})

test('keeps the refresh token of a client of the profile, and lets its key change', async (t) => {
  const by = await new Fapi2Client(server).register({ profile: 'fapi2' })
  const { refresh_token, ...first } = await by.signIn({ scope: 'openid offline_access' })
  t.is(first.token_type, 'DPoP')
  const refresh = (more: Record<string, string> = {}, proof?: string) =>
    by.post('/token', { grant_type: 'refresh_token', refresh_token, ...more }, proof)
  const other = makeSigningKey()
  const { jkt } = other
  for (const proof of [undefined, undefined, by.proof('/token', {}, other)]) {
    const { status, body } = await refresh({}, proof)
    t.is(status, 200, JSON.stringify(body))
    t.is(body.refresh_token, undefined)
    const { body: shown } = await by.post('/introspect', { token: body.access_token })
    t.is(shown.cnf.jkt, proof ? jkt : by.key.jkt)
  }
  // Not without authentication, not without a proof, and not for another client.
  const bare = { grant_type: 'refresh_token', client_id: by.id, refresh_token }
  const unauthenticated = await post(server, '/token', bare, { proof: by.proof('/token') })
  t.is(unauthenticated.body.error, 'invalid_client')
  t.is((await post(server, '/token', { ...bare, ...by.assertion() })).body.error, 'invalid_grant')
  const thief = await new Fapi2Client(server).register({ profile: 'fapi2' })
  const stolen = await thief.post('/token', { grant_type: 'refresh_token', refresh_token })
  t.is(stolen.body.error, 'invalid_grant')
  await by.post('/revoke', { token: refresh_token })
  t.is((await refresh()).body.error, 'invalid_grant')
})

test('rotates and binds the refresh tokens of other clients', async (t) => {
  const by = await new Fapi2Client(server).register()
  const { refresh_token } = await by.signIn({ scope: 'openid offline_access' })
  const parameters = { grant_type: 'refresh_token', refresh_token }
  const other = by.proof('/token', {}, makeSigningKey())
  t.is((await by.post('/token', parameters, other)).body.error, 'invalid_grant')
  const { body } = await by.post('/token', parameters)
  t.truthy(body.refresh_token)
  t.not(body.refresh_token, refresh_token)
})

test('signs authorization responses and their errors where a client asks for it', async (t) => {
  const by = await new Fapi2Client(server).register({ profile: 'fapi2' })
  const keys = createLocalJWKSet((await (await fetch(`${server.issuer}/jwks`)).json()) as never)
  const ask = async (changes: Record<string, string>) => {
    const { searchParams } = await by.authorize(by.request({ response_mode: 'jwt', ...changes }))
    t.deepEqual([...searchParams.keys()], ['response'])
    const expected = { issuer: server.issuer, audience: by.id, algorithms: ['ES256'] }
    return (await jwtVerify(searchParams.get('response') ?? '', keys, expected)).payload
  }
  const { code, state, exp } = await ask({})
  t.is(state, 'the state')
  t.true(Number(exp) <= nowS() + 600)
  const redeemed = await by.post('/token', { ...by.redeeming, code: String(code) })
  t.is(redeemed.status, 200)
  t.like(await ask({ prompt: 'none' }), { error: 'login_required', state: 'the state' })
})

for (const [alg, enc] of [
  ['RSA-OAEP-256', 'A256GCM'],
  ['ECDH-ES', 'A128CBC-HS256'],
] as const) {
  test(`encrypts a signed authorization response by ${alg} to the key of its client`, async (t) => {
    const { privateKey, publicKey } = await generateKeyPair(alg)
    const by = new Fapi2Client(server)
    await by.register({
      profile: 'fapi2',
      authorization_encrypted_response_alg: alg,
      authorization_encrypted_response_enc: enc,
      jwks: {
        keys: [
          { ...by.key.jwk, kid: 'a', use: 'sig' },
          { ...(await exportJWK(publicKey)), kid: 'e', use: 'enc', alg },
        ],
      },
    })
    const { searchParams } = await by.authorize(by.request({ response_mode: 'jwt' }))
    const response = searchParams.get('response') ?? ''
    const options = { keyManagementAlgorithms: [alg], contentEncryptionAlgorithms: [enc] }
    const { plaintext, protectedHeader } = await compactDecrypt(response, privateKey, options)
    t.like(protectedHeader, { cty: 'JWT', kid: 'e' })
    const keys = createLocalJWKSet((await (await fetch(`${server.issuer}/jwks`)).json()) as never)
    const expected = { issuer: server.issuer, audience: by.id, algorithms: ['ES256'] }
    const { payload } = await jwtVerify(new TextDecoder().decode(plaintext), keys, expected)
    t.is(payload.state, 'the state')
    const redeemed = await by.post('/token', { ...by.redeeming, code: String(payload.code) })
    t.is(redeemed.status, 200)
  })
}

test('encrypts authorization responses alone, and by no other algorithm', async (t) => {
  const answer = await fetch(`${server.issuer}/.well-known/openid-configuration`)
  const metadata = Object.entries((await answer.json()) as object)
  t.deepEqual(Object.fromEntries(metadata.filter(([name]) => name.includes('_encryption_'))), {
    authorization_encryption_alg_values_supported: ['RSA-OAEP-256', 'ECDH-ES'],
    authorization_encryption_enc_values_supported: ['A256GCM', 'A128CBC-HS256'],
  })
  for (const changes of [
    { authorization_encrypted_response_alg: 'RSA1_5' },
    { authorization_encrypted_response_alg: 'RSA-OAEP' },
    { authorization_encrypted_response_alg: 'dir' },
    { authorization_encrypted_response_enc: 'A256GCM' },
    { id_token_encrypted_response_alg: 'ECDH-ES' },
    { userinfo_encrypted_response_alg: 'ECDH-ES' },
    { introspection_encrypted_response_alg: 'ECDH-ES' },
    { request_object_encryption_alg: 'dir' },
  ]) {
    const registering = new Fapi2Client(server).register({ profile: 'fapi2', ...changes })
    await t.throwsAsync(registering, { code: 'invalid_client_metadata' }, JSON.stringify(changes))
  }
  const by = await new Fapi2Client(server).register({ profile: 'fapi2' })
  const key = new TextEncoder().encode('k'.repeat(32))
  const request = await new CompactEncrypt(new TextEncoder().encode(by.requestObject().request))
    .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
    .encrypt(key)
  t.is((await by.push({ client_id: by.id, request })).body.error, 'invalid_request_object')
})
