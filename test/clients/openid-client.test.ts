// openid-client as it is published, over HTTPS, with DPoP nonces required.
import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import * as oidc from 'openid-client'
import { makeProof } from '../../src/doctor/proof.ts'
import { approve, deviceEnvironment, television } from '../support/device-flow.ts'
import { createPerson } from '../support/flow.ts'
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
