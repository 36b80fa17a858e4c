// oauth4webapi as it is published, over HTTPS, with DPoP nonces required.
import test from 'ava'
import { exportJWK } from 'jose'
import * as oauth from 'oauth4webapi'
import type { ClientMetadata } from 'oidc-provider'
import { createPerson } from '../support/flow.ts'
import { initialToken } from '../support/registration.ts'
import { api, useTestServer } from '../support/server.ts'
import { trust } from '../support/trust.ts'

const server = useTestServer(test, {
  HOLDFAST_TLS: 'on',
  HOLDFAST_DPOP_NONCES: 'required',
  HOLDFAST_REGISTRATION: 'on',
})
const redirect_uri = 'https://app.example/callback'
let registered: ClientMetadata
let as: oauth.AuthorizationServer
let clientAuth: oauth.ClientAuth

test.before(async () => {
  await trust(server)
  const keys = await oauth.generateKeyPair('ES256')
  registered = await server.addClient({
    application_type: 'web',
    redirect_uris: [redirect_uri],
    token_endpoint_auth_method: 'private_key_jwt',
    jwks: { keys: [await exportJWK(keys.publicKey)] },
  })
  clientAuth = oauth.PrivateKeyJwt(keys.privateKey)
  const issuer = new URL(server.issuer)
  as = await oauth.processDiscoveryResponse(
    issuer,
    await oauth.discoveryRequest(issuer, { algorithm: 'oauth2' }),
  )
})

test('the RFC 8414 document is the OpenID Connect one', async (t) => {
  const read = async (name: string) => (await fetch(`${server.issuer}/.well-known/${name}`)).json()
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

async function signIn(parameters: Record<string, string>) {
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
  const callback = await createPerson(server).authorize({
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

test('signs in by a pushed request and gets bound tokens', async (t) => {
  const { tokens } = await signIn({ scope: 'openid' })
  t.is(tokens.token_type, 'dpop')
  t.is(oauth.getValidatedIdTokenClaims(tokens)?.aud, registered.client_id)
})

test('gets a JWT access token that its own checks accept', async (t) => {
  const { tokens, DPoP, client } = await signIn({ scope: 'openid read', resource: api })
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

test('asks for userinfo', async (t) => {
  const { client, DPoP, tokens } = await signIn({ scope: 'openid email' })
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
  const { client, DPoP, tokens } = await signIn({ scope: 'openid' })
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

test('introspects and revokes', async (t) => {
  const { client, tokens } = await signIn({ scope: 'openid' })
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
  const initialAccessToken = await initialToken(server)
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
  const initialAccessToken = await initialToken(server)
  const metadata = { redirect_uris: [redirect_uri] }
  await t.throwsAsync(
    async () =>
      oauth.processDynamicClientRegistrationResponse(
        await oauth.dynamicClientRegistrationRequest(as, metadata, { initialAccessToken }),
      ),
    { instanceOf: oauth.WWWAuthenticateChallengeError },
  )
})
