// openid-client as it is published, over HTTPS, with DPoP nonces required.
import test from 'ava'
import { exportJWK } from 'jose'
import * as oauth from 'oauth4webapi'
import type { ClientMetadata } from 'oidc-provider'
import * as oidc from 'openid-client'
import { RegistrationError } from '../../src/clients/client-registration.ts'
import { applyPolicy, defaultPolicy } from '../../src/clients/registration-policy.ts'
import { makeProof } from '../../src/doctor/proof.ts'
import { approve, deviceEnvironment, television } from '../support/device-flow.ts'
import { createPerson } from '../support/flow.ts'
import { initialToken } from '../support/registration.ts'
import { api, useTestServer } from '../support/server.ts'
import { trust } from '../support/trust.ts'

const server = useTestServer(test, {
  HOLDFAST_TLS: 'on',
  HOLDFAST_DPOP_NONCES: 'required',
  ...deviceEnvironment,
})
const redirect_uri = 'https://app.example/callback'
let client: ClientMetadata

test.before(async () => {
  await trust(server)
  client = await server.addClient({
    application_type: 'web',
    redirect_uris: [redirect_uri],
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
    token_endpoint_auth_method: 'client_secret_basic',
  })
})

async function discover() {
  const config = await oidc.discovery(
    new URL(server.issuer),
    client.client_id,
    undefined,
    oidc.ClientSecretBasic(client.client_secret ?? ''),
  )
  const DPoP = oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair('ES256'))
  return { config, DPoP }
}

async function signIn(parameters: Record<string, string>) {
  const { config, DPoP } = await discover()
  const pkceCodeVerifier = oidc.randomPKCECodeVerifier()
  const expectedState = oidc.randomState()
  const expectedNonce = oidc.randomNonce()
  const url = await oidc.buildAuthorizationUrlWithPAR(
    config,
    {
      redirect_uri,
      code_challenge: await oidc.calculatePKCECodeChallenge(pkceCodeVerifier),
      code_challenge_method: 'S256',
      state: expectedState,
      nonce: expectedNonce,
      ...parameters,
    },
    { DPoP },
  )
  const callback = await createPerson(server).authorize({
    redirect_uri,
    ...Object.fromEntries(url.searchParams),
  })
  const checks = { pkceCodeVerifier, expectedState, expectedNonce }
  const resource = parameters.resource ? { resource: parameters.resource } : undefined
  const tokens = await oidc.authorizationCodeGrant(config, callback, checks, resource, { DPoP })
  return { config, DPoP, tokens }
}

test('signs in by a pushed request and gets bound tokens', async (t) => {
  const { tokens } = await signIn({ scope: 'openid' })
  t.is(tokens.token_type, 'dpop')
  t.is(tokens.claims()?.iss, server.issuer)
  t.truthy(tokens.refresh_token)
})

test('asks for userinfo', async (t) => {
  const { config, DPoP, tokens } = await signIn({ scope: 'openid email profile' })
  const sub = tokens.claims()?.sub ?? ''
  const info = await oidc.fetchUserInfo(config, tokens.access_token, sub, { DPoP })
  t.like(info, { sub, email: 'ada@example.com', name: 'Ada' })
})

test('refreshes, and again with what it got', async (t) => {
  const { config, DPoP, tokens } = await signIn({ scope: 'openid read', resource: api })
  let refreshToken = tokens.refresh_token ?? ''
  for (const round of [1, 2]) {
    const next = await oidc.refreshTokenGrant(config, refreshToken, { resource: api }, { DPoP })
    t.not(next.refresh_token, refreshToken, `round ${round}`)
    refreshToken = next.refresh_token ?? ''
  }
})

test('introspects and revokes', async (t) => {
  const { config, tokens } = await signIn({ scope: 'openid' })
  const token = tokens.refresh_token ?? ''
  const { active, cnf } = await oidc.tokenIntrospection(config, token)
  t.true(active)
  t.truthy(cnf?.jkt)
  await oidc.tokenRevocation(config, token)
  t.false((await oidc.tokenIntrospection(config, token)).active)
})

test('gets a token as a service', async (t) => {
  const { config, DPoP } = await discover()
  const parameters = { resource: api, scope: 'read' }
  const tokens = await oidc.clientCredentialsGrant(config, parameters, { DPoP })
  t.is(tokens.token_type, 'dpop')
})

test('signs out', async (t) => {
  const person = createPerson(server)
  const { config, tokens } = await signIn({ scope: 'openid' })
  const url = oidc.buildEndSessionUrl(config, { id_token_hint: tokens.id_token ?? '' })
  const page = await person.browser.visit(url)
  t.is(page.status, 200)
})

test('is refused another key for its refresh token', async (t) => {
  const { config, tokens } = await signIn({ scope: 'openid' })
  const DPoP = oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair('ES256'))
  await t.throwsAsync(
    oidc.refreshTokenGrant(config, tokens.refresh_token ?? '', undefined, { DPoP }),
    { message: /server responded with an error/, code: 'OAUTH_RESPONSE_BODY_ERROR' },
  )
})

test('lets a device in, whose proof its own fetch adds to the first request', async (t) => {
  const { client_id } = await server.addClient(television)
  const config = await oidc.discovery(new URL(server.issuer), client_id, undefined, oidc.None())
  const key = await oidc.randomDPoPKeyPair('ES256')
  const DPoP = oidc.getDPoPHandle(config, key)
  config[oidc.customFetch] = async (url, options) => {
    const send = async (nonce?: string) => {
      const proof = await makeProof(key, { method: 'POST', url, ...(nonce && { nonce }) })
      return fetch(url, { ...options, headers: { ...options.headers, dpop: proof } } as RequestInit)
    }
    if (!url.endsWith('/device_authorization')) return fetch(url, options as RequestInit)
    const answer = await send()
    return answer.ok ? answer : send(answer.headers.get('dpop-nonce') ?? undefined)
  }
  const asked = await oidc.initiateDeviceAuthorization(config, { scope: 'openid' })
  t.is(asked.interval, 5)
  await approve(server, createPerson(server), asked.user_code)
  const response = { ...asked, interval: 0 }
  const tokens = await oidc.pollDeviceAuthorizationGrant(config, response, undefined, { DPoP })
  t.is(tokens.token_type, 'dpop')
  t.is(tokens.claims()?.iss, server.issuer)
})
// oauth4webapi as it is published, over HTTPS, with DPoP nonces required.

const oauthServer = useTestServer(test, {
  HOLDFAST_TLS: 'on',
  HOLDFAST_DPOP_NONCES: 'required',
  HOLDFAST_REGISTRATION: 'on',
})
let registered: ClientMetadata
let as: oauth.AuthorizationServer
let clientAuth: oauth.ClientAuth

test.before(async () => {
  await trust(oauthServer)
  const keys = await oauth.generateKeyPair('ES256')
  registered = await oauthServer.addClient({
    application_type: 'web',
    redirect_uris: [redirect_uri],
    token_endpoint_auth_method: 'private_key_jwt',
    jwks: { keys: [await exportJWK(keys.publicKey)] },
  })
  clientAuth = oauth.PrivateKeyJwt(keys.privateKey)
  const issuer = new URL(oauthServer.issuer)
  as = await oauth.processDiscoveryResponse(
    issuer,
    await oauth.discoveryRequest(issuer, { algorithm: 'oauth2' }),
  )
})

test('the RFC 8414 document is the OpenID Connect one', async (t) => {
  const read = async (name: string) =>
    (await fetch(`${oauthServer.issuer}/.well-known/${name}`)).json()
  t.deepEqual(await read('oauth-authorization-server'), await read('openid-configuration'))
})

/** Makes a request again with the nonce that the first answer brought, as the library asks. */
async function withNonce<T>(request: () => Promise<T>): Promise<T> {
  try {
    return await request()
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error
    return request()
  }
}

async function oauthSignIn(parameters: Record<string, string>) {
  const client: oauth.Client = { client_id: registered.client_id }
  const DPoP = oauth.DPoP(client, await oauth.generateKeyPair('ES256'))
  const verifier = oauth.generateRandomCodeVerifier()
  const state = oauth.generateRandomState()
  const request = new URLSearchParams({
    redirect_uri,
    response_type: 'code',
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
    ...parameters,
  })
  const pushed = await withNonce(async () =>
    oauth.processPushedAuthorizationResponse(
      as,
      client,
      await oauth.pushedAuthorizationRequest(as, client, clientAuth, request, { DPoP }),
    ),
  )
  const callback = await createPerson(oauthServer).authorize({
    redirect_uri,
    client_id: client.client_id,
    request_uri: pushed.request_uri,
  })
  const validated = oauth.validateAuthResponse(as, client, callback, state)
  const additionalParameters: Record<string, string> = parameters.resource
    ? { resource: parameters.resource }
    : {}
  const tokens = await withNonce(async () =>
    oauth.processAuthorizationCodeResponse(
      as,
      client,
      await oauth.authorizationCodeGrantRequest(
        as,
        client,
        clientAuth,
        validated,
        redirect_uri,
        verifier,
        { DPoP, additionalParameters },
      ),
    ),
  )
  return { client, DPoP, tokens }
}

test('signs in by a pushed request and gets bound tokens, with oauth4webapi', async (t) => {
  const { tokens } = await oauthSignIn({ scope: 'openid' })
  t.is(tokens.token_type, 'dpop')
  t.is(oauth.getValidatedIdTokenClaims(tokens)?.aud, registered.client_id)
})

test('gets a JWT access token that its own checks accept', async (t) => {
  const { tokens, DPoP, client } = await oauthSignIn({ scope: 'openid read', resource: api })
  let request = new Request(`${api}/orders`)
  await oauth.protectedResourceRequest(
    tokens.access_token,
    'GET',
    new URL(request.url),
    undefined,
    undefined,
    {
      DPoP,
      [oauth.customFetch]: async (url, { headers }) => {
        request = new Request(url, { headers })
        return new Response()
      },
    },
  )
  const claims = await oauth.validateJwtAccessToken(as, request, api, { requireDPoP: true })
  t.is(claims.client_id, client.client_id)
})

test('asks for userinfo, with oauth4webapi', async (t) => {
  const { client, DPoP, tokens } = await oauthSignIn({ scope: 'openid email' })
  const { sub } = oauth.getValidatedIdTokenClaims(tokens) ?? { sub: '' }
  const info = await withNonce(async () =>
    oauth.processUserInfoResponse(
      as,
      client,
      sub,
      await oauth.userInfoRequest(as, client, tokens.access_token, { DPoP }),
    ),
  )
  t.is(info.email, 'ada@example.com')
})

test('refreshes', async (t) => {
  const { client, DPoP, tokens } = await oauthSignIn({ scope: 'openid' })
  const next = await withNonce(async () =>
    oauth.processRefreshTokenResponse(
      as,
      client,
      await oauth.refreshTokenGrantRequest(as, client, clientAuth, tokens.refresh_token ?? '', {
        DPoP,
      }),
    ),
  )
  t.truthy(next.refresh_token)
  t.not(next.refresh_token, tokens.refresh_token)
})

test('introspects and revokes, with oauth4webapi', async (t) => {
  const { client, tokens } = await oauthSignIn({ scope: 'openid' })
  const token = tokens.refresh_token ?? ''
  const introspect = async () =>
    oauth.processIntrospectionResponse(
      as,
      client,
      await oauth.introspectionRequest(as, client, clientAuth, token),
    )
  t.truthy((await introspect()).cnf?.jkt)
  await oauth.processRevocationResponse(
    await oauth.revocationRequest(as, client, clientAuth, token),
  )
  t.false((await introspect()).active)
})

test('registers itself, and reads what it registered', async (t) => {
  const initialAccessToken = await initialToken(oauthServer)
  const DPoP = oauth.DPoP({}, await oauth.generateKeyPair('ES256'))
  const metadata = { client_name: 'Registered', redirect_uris: [redirect_uri] }
  const made = await withNonce(async () =>
    oauth.processDynamicClientRegistrationResponse(
      await oauth.dynamicClientRegistrationRequest(as, metadata, { DPoP, initialAccessToken }),
    ),
  )
  t.is(made.client_name, 'Registered')
  t.truthy(made.client_secret)
  const read = await oauth.protectedResourceRequest(
    String(made.registration_access_token),
    'GET',
    new URL(String(made.registration_client_uri)),
    undefined,
    undefined,
    { DPoP },
  )
  t.like(await read.json(), { client_id: made.client_id, client_name: 'Registered' })
})

test('cannot register by a bearer token', async (t) => {
  const initialAccessToken = await initialToken(oauthServer)
  const metadata = { redirect_uris: [redirect_uri] }
  await t.throwsAsync(
    async () =>
      oauth.processDynamicClientRegistrationResponse(
        await oauth.dynamicClientRegistrationRequest(as, metadata, { initialAccessToken }),
      ),
    { instanceOf: oauth.WWWAuthenticateChallengeError },
  )
})

const web = { redirect_uris: ['https://shop.example/callback'] }
const native = {
  application_type: 'native',
  redirect_uris: ['http://127.0.0.1/callback'],
  token_endpoint_auth_method: 'none',
}

test('fills in what RFC 7591 leaves to the server', (t) => {
  t.deepEqual(applyPolicy(defaultPolicy, web), {
    redirect_uris: web.redirect_uris,
    grant_types: ['authorization_code'],
    response_types: ['code'],
    token_endpoint_auth_method: 'client_secret_basic',
    scope: 'openid offline_access profile email',
  })
})

test('ignores what it does not understand', (t) => {
  const unknown = {
    client_id: 'mine',
    client_secret: 'mine',
    software_id: '1',
    sector_identifier_uri: 'https://metadata.internal/',
    request_uris: ['https://a.example'],
    'client_name#ja': 'x',
    grant_types: null,
  }
  t.deepEqual(applyPolicy(defaultPolicy, { ...web, ...unknown }), applyPolicy(defaultPolicy, web))
})

test('a client without people has no response types', (t) => {
  const policy = { ...defaultPolicy, grantTypes: ['client_credentials'] }
  const { response_types } = applyPolicy(policy, { grant_types: ['client_credentials'] })
  t.deepEqual(response_types, [])
})

const accepted: [string, object][] = [
  ['loopback redirects of native applications', native],
  [
    'schemes of native applications',
    { ...native, redirect_uris: ['com.example.app:/callback', 'https://app.example/callback'] },
  ],
  ['other bindings', { ...web, tls_client_certificate_bound_access_tokens: true }],
  ['fewer scopes', { ...web, scope: 'openid' }],
  ['pages of its own host', { ...web, client_uri: 'https://shop.example/', tos_uri: null }],
]

for (const [what, metadata] of accepted) {
  test(`accepts ${what}`, (t) => {
    t.notThrows(() => applyPolicy(defaultPolicy, { ...metadata }))
  })
}

const refused: [string, object, RegExp][] = [
  ['a grant beyond the policy', { grant_types: ['client_credentials'] }, /grant_types may have/],
  ['a response type whose grant is', { response_types: ['code id_token'] }, /grant_types may have/],
  ['a response type beyond all', { response_types: ['code token'] }, /grant_types may have/],
  ['bearer tokens', { binding_method: 'bearer' }, /binding_method may have dpop, mtls/],
  [
    'bindings that contradict themselves',
    { binding_method: 'dpop', tls_client_certificate_bound_access_tokens: true },
    /contradicts binding_method dpop/,
  ],
  ['a scope beyond the policy', { scope: 'openid admin' }, /scope may have/],
  ['a scope that is no string', { scope: ['openid'] }, /scope must be/],
  ['grants that are no list', { grant_types: 'authorization_code' }, /grant_types must be a list/],
  ['grants that are no strings', { grant_types: [7] }, /grant_types must be a list/],
  ['administration', { administration: 'read' }, /administration is for an administrator/],
  ['rules of sessions', { session_policy: {} }, /session_policy is for an administrator/],
  ['where it came from', { self_registered: false }, /self_registered is for an administrator/],
  ['to skip consent', { skip_consent: true }, /skip_consent is for an administrator/],
  ['a name on two lines', { client_name: 'Shop\nof Ada' }, /client_name must be/],
  ['a name that turns the text', { client_name: 'Shop\u202e' }, /client_name must be/],
  ['a name without end', { client_name: 'x'.repeat(10_240) }, /client_name must/],
  ['a name that nobody sees', { client_name: '\u200b' }, /client_name must be/],
  ['a name with tags', { client_name: 'Shop\u{e0041}' }, /client_name must be/],
  ['half a name', { client_name: 'Shop\ud800' }, /client_name must be/],
  ['a name that is no text', { client_name: ['Shop'] }, /client_name must be/],
  ['a long text', { contacts: [`${'x'.repeat(2048)}@a.example`] }, /contacts must not be longer/],
  ['a long contact', { contacts: [`${'x'.repeat(250)}@a.example`] }, /contacts must not be longer/],
  [
    'members without end',
    Object.fromEntries(Array.from({ length: 100 }, (_, at) => [`unknown_${at}`, at])),
    /metadata must have 100 members/,
  ],
  ['a long list', { contacts: Array(21).fill('a@a.example') }, /contacts must have 20/],
  ['many keys', { jwks: { keys: Array(21).fill({}) } }, /jwks must have 20/],
  ['much of everything', { jwks: { keys: [{ x5c: ['x'.repeat(17_000)] }] } }, /must not be longer/],
  ['keys over plain HTTP', { jwks_uri: 'http://shop.example/keys' }, /jwks_uri must be an https/],
  ['keys in a file', { jwks_uri: 'file:///etc/passwd' }, /jwks_uri must be an https/],
  ['a page on another host', { client_uri: 'https://bank.example/' }, /client_uri must be at/],
  ['terms over plain HTTP', { tos_uri: 'http://shop.example/' }, /tos_uri must be an https/],
]

for (const [what, changes, words] of refused) {
  test(`refuses ${what}`, (t) => {
    const error = t.throws(() => applyPolicy(defaultPolicy, { ...web, ...changes }), {
      instanceOf: RegistrationError,
    })
    t.is(error?.code, 'invalid_client_metadata')
    t.regex(error?.message ?? '', words)
  })
}

test('refuses a way to authenticate beyond the policy', (t) => {
  const policy = { ...defaultPolicy, authMethods: ['private_key_jwt'] }
  const error = t.throws(() => applyPolicy(policy, web), { instanceOf: RegistrationError })
  t.regex(error?.message ?? '', /token_endpoint_auth_method may have private_key_jwt only/)
})

test('sends logouts of a client that registered itself to its own hosts only', (t) => {
  const register = (backchannel_logout_uri: string) =>
    applyPolicy(defaultPolicy, { ...web, backchannel_logout_uri })
  t.is(register('https://shop.example/x').backchannel_logout_uri, 'https://shop.example/x')
  const error = t.throws(() => register('https://bank.example/'), { instanceOf: RegistrationError })
  t.regex(error?.message ?? '', /backchannel_logout_uri must be at a host of redirect_uris/)
})

test('approves no software statement', (t) => {
  const error = t.throws(() => applyPolicy(defaultPolicy, { ...web, software_statement: 'x' }), {
    instanceOf: RegistrationError,
  })
  t.is(error?.code, 'unapproved_software_statement')
})

const wrongRedirects: [string, string, object?][] = [
  ['plain HTTP', 'http://shop.example/cb'],
  ['a wildcard', 'https://*.shop.example/cb'],
  ['a user name', 'https://bank.example@shop.example/cb'],
  ['loopback of a web application', 'https://localhost/cb'],
  ['another name of loopback', 'https://localhost./cb'],
  ['an address of this machine', 'https://0.0.0.0/cb'],
  ['loopback in IPv6', 'https://[::ffff:7f00:1]/cb'],
  ['another spelling', 'https://SHOP.example/cb'],
  ['what is no URI', '/callback'],
  ['a script', 'javascript:alert(1)', native],
  ['a scheme without a domain', 'myapp:/callback', native],
  ['plain HTTP of a native application', 'http://shop.example/cb', native],
]

for (const [what, uri, base = web] of wrongRedirects) {
  for (const name of ['redirect_uris', 'post_logout_redirect_uris']) {
    test(`refuses ${what} in ${name}`, (t) => {
      const error = t.throws(() => applyPolicy(defaultPolicy, { ...base, [name]: [uri] }), {
        instanceOf: RegistrationError,
      })
      t.is(error?.code, 'invalid_redirect_uri')
    })
  }
}

test('keeps redirects at the hosts of the policy', (t) => {
  const policy = { ...defaultPolicy, redirectHosts: ['shop.example'] }
  t.notThrows(() => applyPolicy(policy, web))
  t.notThrows(() => applyPolicy(policy, { redirect_uris: ['https://shop.example:8443/cb'] }))
  for (const uri of [
    'https://SHOP.example:8443/cb',
    'https://evil.example/cb',
    'https://shop.example.evil.example/cb',
    'http://127.0.0.1/callback',
    'com.example.app:/callback',
  ]) {
    const error = t.throws(() => applyPolicy(policy, { ...native, redirect_uris: [uri] }), {
      instanceOf: RegistrationError,
    })
    t.is(error?.code, 'invalid_redirect_uri')
  }
})
