/**
 * What modules of the OpenID Foundation's plans for OpenID Connect look for, written from the
 * specifications. docs/conformance.md has the list of modules.
 */
import { hash } from 'node:crypto'
import test from 'ava'
import { createRemoteJWKSet, decodeJwt, type JWTPayload, jwtVerify } from 'jose'
import { parse } from 'node-html-parser'
import type { ClientMetadata } from 'oidc-provider'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { passwordAcr } from '../../src/accounts/acr.ts'
import { administerKeys } from '../../src/administration/keys.ts'
import { changeClient, type RequestedMetadata } from '../../src/clients/client-registration.ts'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import { basic, createPerson, newKey, obtainCode, type Person, post } from '../support/flow.ts'
import { letDaysPass, openRing, policy, secret } from '../support/keys.ts'
import { api, email, useTestServer } from '../support/server.ts'
import { until } from '../support/until.ts'

const server = useTestServer(test, { HOLDFAST_SECRET: secret })
let key: KeyPair
let person: Person

const profile = {
  givenName: 'Augusta',
  familyName: 'King',
  preferredUsername: 'ada',
  locale: 'en-GB',
  zoneinfo: 'Europe/London',
  picture: 'https://example.com/ada.png',
  phone: '+442012345678',
  streetAddress: '12 St James’s Square',
  postalCode: 'SW1Y 4JH',
  locality: 'London',
  region: 'Greater London',
  country: 'United Kingdom',
}

const profileClaims = {
  name: 'Ada',
  given_name: 'Augusta',
  family_name: 'King',
  preferred_username: 'ada',
  locale: 'en-GB',
  zoneinfo: 'Europe/London',
  picture: 'https://example.com/ada.png',
}

const contactClaims = {
  phone_number: '+442012345678',
  phone_number_verified: true,
  address: {
    street_address: '12 St James’s Square',
    locality: 'London',
    region: 'Greater London',
    postal_code: 'SW1Y 4JH',
    country: 'United Kingdom',
  },
}

const mappings = [
  { claim: 'department', scope: 'openid', attribute: 'department' },
  { claim: 'tier', scope: 'openid', value: { level: 1 } },
  { claim: 'tier', scope: 'openid', client: 'favoured', value: { level: 2 } },
  { claim: 'department', scope: 'read', attribute: 'department' },
]

test.before(async () => {
  key = await newKey()
  person = createPerson(server)
  await createAccounts({ store: server.storage.accounts }).change(email, {
    profile,
    phoneVerified: true,
    groups: ['staff', 'editors'],
    attributes: { department: 'engines' },
  })
  await server.storage.claimMappings.replace(mappings)
})

const addClient = (metadata: RequestedMetadata = {}) => server.addClient(metadata)

const scope = 'openid profile email address phone groups'

async function tokensOf(
  client: ClientMetadata,
  parameters: Record<string, string> = {},
  exchanged: Record<string, string> = {},
) {
  const { exchange } = await obtainCode(person, client, { scope, ...parameters })
  const headers = client.client_secret ? basic(client) : {}
  const { body } = await post(server, '/token', { ...exchange, ...exchanged }, { key, headers })
  return body as { id_token: string; access_token: string }
}

async function userinfo(token: string): Promise<Response> {
  const url = `${server.issuer}/userinfo`
  const dpop = await makeProof(key, { method: 'GET', url, accessToken: token })
  return fetch(url, { headers: { authorization: `DPoP ${token}`, dpop } })
}

test.serial(
  'returns the claims of each scope at UserInfo (oidcc-scope-profile, -email, -address, -phone, -all)',
  async (t) => {
    const client = await addClient()
    const of = async (scope: string) => {
      const { access_token } = await tokensOf(client, { scope })
      return (await userinfo(access_token)).json()
    }
    const all = (await of(scope)) as Record<string, unknown>
    t.like(all, { ...profileClaims, email, email_verified: false, groups: ['staff', 'editors'] })
    t.like(all, contactClaims)
    t.is(typeof all.updated_at, 'number')
    const some = (await of('openid email')) as object
    t.false('given_name' in some || 'groups' in some || 'address' in some)
    const { address, phone_number, phone_number_verified } = contactClaims
    const { sub } = all
    const ofAddress = (await of('openid address')) as object
    t.like(ofAddress, { sub, address })
    t.false('phone_number' in ofAddress || 'name' in ofAddress)
    const ofPhone = (await of('openid phone')) as object
    t.like(ofPhone, { sub, phone_number, phone_number_verified })
    t.false('address' in ofPhone)
  },
)

test.serial(
  'returns claims that a request names at UserInfo and in the ID token (oidcc-claims-essential)',
  async (t) => {
    const wanted = { id_token: { family_name: null }, userinfo: { name: { essential: true } } }
    const claims = JSON.stringify(wanted)
    const { id_token, access_token } = await tokensOf(await addClient(), {
      scope: 'openid',
      claims,
    })
    t.is(decodeJwt(id_token).family_name, 'King')
    t.false('name' in decodeJwt(id_token))
    t.like(await (await userinfo(access_token)).json(), { name: 'Ada' })
  },
)

test.serial(
  'puts the claims of scopes into ID tokens for a client that wants them there',
  async (t) => {
    const plain = decodeJwt((await tokensOf(await addClient())).id_token)
    t.false('name' in plain || 'email' in plain || 'groups' in plain || 'address' in plain)
    const client = await addClient({ id_token_claims: true })
    const wanted = { ...profileClaims, ...contactClaims, email }
    t.like(decodeJwt((await tokensOf(client)).id_token), wanted)
    await t.throwsAsync(addClient({ id_token_claims: 'yes' as never }), {
      message: /id_token_claims must be a boolean/,
    })
  },
)

test.serial(
  'says the same custom claims in ID tokens, at UserInfo and by introspection',
  async (t) => {
    const client = await addClient({ client_id: 'favoured' })
    const { id_token, access_token } = await tokensOf(client)
    const custom = { department: 'engines', tier: { level: 2 } }
    t.like(decodeJwt(id_token), custom)
    t.like(await (await userinfo(access_token)).json(), custom)
    const asked = { client_id: client.client_id, token: access_token }
    t.like((await post(server, '/introspect', asked)).body, { active: true, ...custom })
    const other = decodeJwt((await tokensOf(await addClient())).id_token)
    t.like(other, { department: 'engines', tier: { level: 1 } })
  },
)

test.serial('says custom claims of the scopes of an API in its access tokens', async (t) => {
  const client = await addClient()
  const { access_token } = await tokensOf(
    client,
    { scope: 'openid read', resource: api },
    { resource: api },
  )
  const claims = decodeJwt(access_token)
  t.like(claims, { department: 'engines', aud: api })
  t.false('tier' in claims)
  const asked = { client_id: client.client_id, token: access_token }
  t.like((await post(server, '/introspect', asked)).body, { department: 'engines' })
})

test.serial(
  'says the claims of scopes in the ID token of the authorization response as well',
  async (t) => {
    for (const [id_token_claims, name] of [
      [true, 'Ada'],
      [false, undefined],
    ] as const) {
      const client = await addClient({
        application_type: 'web',
        redirect_uris: ['https://rp.example/callback'],
        grant_types: ['authorization_code', 'implicit'],
        response_types: ['code id_token'],
        token_endpoint_auth_method: 'client_secret_basic',
        id_token_claims,
      })
      const arrived = await person.authorize({
        client_id: client.client_id,
        redirect_uri: 'https://rp.example/callback',
        response_type: 'code id_token',
        nonce: 'n',
        scope,
        code_challenge: 'x'.repeat(43),
        code_challenge_method: 'S256',
      })
      const token = new URLSearchParams(arrived.hash.slice(1)).get('id_token') ?? ''
      const claims = decodeJwt(token)
      t.is(claims.name, name)
      t.like(claims, { department: 'engines', tier: { level: 1 } })
    }
  },
)

test.serial('signs UserInfo by the algorithm of the client (oidcc-userinfo-rs256)', async (t) => {
  const keys = createRemoteJWKSet(new URL(`${server.issuer}/jwks`))
  for (const alg of ['RS256', 'ES256', 'PS256'] as const) {
    const client = await addClient({ userinfo_signed_response_alg: alg })
    const { access_token, id_token } = await tokensOf(client)
    const answer = await userinfo(access_token)
    t.is(answer.headers.get('content-type'), 'application/jwt; charset=utf-8')
    const { payload, protectedHeader } = await jwtVerify(await answer.text(), keys, {
      issuer: server.issuer,
      audience: client.client_id,
    })
    t.is(protectedHeader.alg, alg)
    t.is(payload.sub, decodeJwt(id_token).sub)
    t.like(payload, { ...profileClaims, email, department: 'engines' })
    // Bound to a key as ever.
    const authorization = `DPoP ${access_token}`
    t.is((await fetch(`${server.issuer}/userinfo`, { headers: { authorization } })).status, 400)
  }
  const { access_token } = await tokensOf(await addClient())
  const { headers } = await userinfo(access_token)
  t.is(headers.get('content-type'), 'application/json; charset=utf-8')
})

test.serial(
  'returns an acr where acr_values names unknown ones (oidcc-ensure-request-with-acr-values-succeeds)',
  async (t) => {
    const { id_token } = await tokensOf(await addClient(), { acr_values: '1 2' })
    t.is(decodeJwt(id_token).acr, passwordAcr)
  },
)

const web = {
  application_type: 'web',
  redirect_uris: ['https://rp.example/callback'],
  token_endpoint_auth_method: 'client_secret_basic',
} as const

const request = ({ client_id }: ClientMetadata, more: Record<string, string> = {}) => ({
  ...{ client_id, redirect_uri: 'https://rp.example/callback', response_type: 'code' },
  ...{ scope: 'openid', state: 'the state', nonce: 'n' },
  ...{ code_challenge: 'x'.repeat(43), code_challenge_method: 'S256' },
  ...more,
})

/** The claims of the ID token of a sign-in of someone, and itself. */
async function idTokenOf(
  by: Person,
  client: ClientMetadata,
  more: Record<string, string> = {},
): Promise<JWTPayload & { jwt: string }> {
  const [redirect_uri] = web.redirect_uris
  const { exchange } = await obtainCode(by, client, { redirect_uri, nonce: 'n', ...more })
  const { body } = await post(server, '/token', exchange, { key, headers: basic(client) })
  return { ...decodeJwt(body.id_token), jwt: body.id_token }
}

test.serial(
  'takes the access token in the header of GET and POST, and in the body, at UserInfo (oidcc-userinfo-get, -post-header, -post-body)',
  async (t) => {
    const client = await addClient({ binding_method: 'bearer' })
    const { exchange } = await obtainCode(person, client, { scope })
    const { access_token, id_token } = (await post(server, '/token', exchange)).body
    const authorization = `Bearer ${access_token}`
    for (const request of [
      { headers: { authorization } },
      { method: 'POST', headers: { authorization } },
      { method: 'POST', body: new URLSearchParams({ access_token }) },
    ]) {
      const answer = await fetch(`${server.issuer}/userinfo`, request)
      t.is(answer.status, 200)
      t.like(await answer.json(), { sub: decodeJwt(id_token).sub, email })
    }
  },
)

test.serial(
  'signs in without a page or says why not (oidcc-prompt-none-*, oidcc-id-token-hint, oidcc-max-age-10000)',
  async (t) => {
    const client = await addClient(web)
    const none = { prompt: 'none' }
    const stranger = createPerson(server)
    const refused = (await stranger.authorize(request(client, none))).searchParams
    t.like(Object.fromEntries(refused), { error: 'login_required', state: 'the state' })
    const first = await idTokenOf(stranger, client)
    for (const more of [none, { ...none, id_token_hint: first.jwt }, { max_age: '10000' }]) {
      const again = await idTokenOf(stranger, client, more)
      t.is(again.sub, first.sub)
      t.is('auth_time' in again, 'max_age' in more)
    }
  },
)

test.serial(
  'asks for the password again, and says when it was typed (oidcc-prompt-login, oidcc-max-age-1)',
  async (t) => {
    const client = await addClient({ ...web, require_auth_time: true })
    const before = await idTokenOf(person, client)
    for (const more of [{ prompt: 'login' }, { max_age: '0' }]) {
      const url = `${server.issuer}/authorize?${new URLSearchParams(request(client, more))}`
      t.regex((await person.browser.visit(url)).html, />Sign in</)
      const after = await idTokenOf(person, client, more)
      t.is(after.sub, before.sub)
      t.true(Number(after.auth_time) >= Number(before.auth_time))
    }
  },
)

test.serial(
  'answers requests with parameters that it does not know or need (oidcc-ensure-request-with-unknown-parameter-succeeds, oidcc-display-*, oidcc-ui-locales, oidcc-claims-locales, oidcc-login-hint)',
  async (t) => {
    const client = await addClient(web)
    const more = { extra: 'foobar', display: 'popup', ui_locales: 'se', claims_locales: 'se' }
    const { nonce } = await idTokenOf(person, client, { ...more, login_hint: email })
    t.is(nonce, 'n')
  },
)

test.serial(
  'takes an authorization request by POST (oidcc-ensure-post-request-succeeds)',
  async (t) => {
    const body = new URLSearchParams(request(await addClient(web)))
    const answer = await fetch(`${server.issuer}/authorize`, {
      method: 'POST',
      body,
      redirect: 'manual',
    })
    t.is(answer.status, 303)
    // As a GET, which takes along the cookies of this site.
    const asked = new URL(answer.headers.get('location') ?? '', server.issuer)
    t.like(Object.fromEntries(asked.searchParams), Object.fromEntries(body))
    const page = await fetch(asked, { redirect: 'manual' })
    t.regex(page.headers.get('location') ?? '', /\/interaction\//)
  },
)

test.serial(
  'accepts a request without nonce and PKCE of a client that may leave out both (oidcc-ensure-request-without-nonce-succeeds-for-code-flow)',
  async (t) => {
    const excused = { ...web, require_pkce: false, require_nonce: false }
    const client = await addClient({ ...excused, binding_method: 'bearer' })
    const { client_id, redirect_uri, response_type, scope } = request(client)
    const plain = { client_id, redirect_uri, response_type, scope }
    const code = (await person.authorize(plain)).searchParams.get('code') ?? ''
    const form = { grant_type: 'authorization_code', code, redirect_uri }
    const { status, body } = await post(server, '/token', form, { headers: basic(client) })
    t.is(status, 200)
    t.false('nonce' in decodeJwt(body.id_token))
    const { require_nonce: _, ...withNonce } = excused
    const other = { ...plain, client_id: (await addClient(withNonce)).client_id }
    t.is((await person.authorize(other)).searchParams.get('error'), 'invalid_request')
    for (const [name, value, reason] of [
      ['require_pkce', undefined, /needs require_pkce false/],
      ['require_nonce', 'no', /require_nonce must be a boolean/],
    ] as const) {
      const wrong = { ...excused, [name]: value as never }
      await t.throwsAsync(addClient(wrong), { message: reason })
    }
  },
)

test.serial(
  'posts code, state and iss to the client (the plans with response_mode=form_post)',
  async (t) => {
    const client = await addClient(web)
    await person.authorize(request(client))
    const asked = request(client, { response_mode: 'form_post' })
    const url = `${server.issuer}/authorize?${new URLSearchParams(asked)}`
    const { html } = await person.browser.visit(url)
    const form = parse(html).querySelector('form')
    t.is(form?.getAttribute('action'), 'https://rp.example/callback')
    t.is(form?.getAttribute('method')?.toLowerCase(), 'post')
    const sent = form
      ?.querySelectorAll('input')
      .map((input) => [input.getAttribute('name'), input.getAttribute('value')])
    const { code, ...others } = Object.fromEntries(sent ?? [])
    t.truthy(code)
    t.deepEqual(others, { state: 'the state', iss: server.issuer })
  },
)

test.serial(
  'returns code and ID token in the fragment, bound to each other, to a request with a nonce',
  async (t) => {
    const client = await addClient({
      ...web,
      grant_types: ['authorization_code', 'implicit'],
      response_types: ['code id_token'],
    })
    const hybrid = { response_type: 'code id_token' }
    const { hash: answer, search } = await person.authorize(request(client, hybrid))
    t.is(search, '')
    const parameters = new URLSearchParams(answer.slice(1))
    const claims = decodeJwt(parameters.get('id_token') ?? '')
    const digest = hash('sha256', parameters.get('code') ?? '', 'buffer')
    t.like(claims, { nonce: 'n', c_hash: digest.subarray(0, 16).toString('base64url') })
    const { nonce: _, ...without } = request(client, hybrid)
    const refused = new URLSearchParams((await person.authorize(without)).hash.slice(1))
    t.is(refused.get('error'), 'invalid_request')
  },
)

test.serial(
  'links the pages of a client at consent (oidcc-registration-policy-uri, -tos-uri)',
  async (t) => {
    const pages = {
      client_uri: 'https://rp.example/',
      policy_uri: 'https://rp.example/privacy',
      tos_uri: 'https://rp.example/terms?a=1&b=2',
    }
    const client = await addClient({ ...web, ...pages })
    const url = `${server.issuer}/authorize?${new URLSearchParams(request(client))}`
    const links = (html: string) =>
      parse(html)
        .querySelectorAll('.client-pages a')
        .map((link) => link.attributes.href)
    t.deepEqual(links((await person.browser.visit(url)).html), Object.values(pages))
    await person.authorize(request(client))
    // What was allowed is what was shown.
    const changed = { ...web, ...pages, tos_uri: 'https://rp.example/other-terms' }
    const { client_id } = client
    await changeClient(client_id, changed, {
      table: server.storage.clients,
      validator: server.provider,
    })
    t.regex((await person.browser.visit(url)).html, /You allowed this application before/)
    for (const [name, uri] of [
      ['policy_uri', 'http://rp.example/privacy'],
      ['tos_uri', 'javascript:alert(1)'],
      ['client_uri', 'https://user@rp.example/'],
    ] as const) {
      await t.throwsAsync(addClient({ ...web, [name]: uri }), { code: 'invalid_client_metadata' })
    }
  },
)

test.serial(
  'shows a new key beside the old ones at once, with each rotation (oidcc-server-rotate-keys)',
  async (t) => {
    // The command is a process of its own.
    await using opened = new AsyncDisposableStack()
    const ring = await openRing(opened, server.databaseUrl)
    const { publish } = policy
    const keys = administerKeys({ ring, table: ring.table, publish, changed: () => {} })
    const kids = async () => {
      const answer = await fetch(`${server.issuer}/jwks`)
      return ((await answer.json()) as { keys: { kid: string }[] }).keys.map(({ kid }) => kid)
    }
    const before = await kids()
    await keys.rotate(['RS256'])
    await until(async () => (await kids()).length === before.length + 1, 6_000)
    const once = await kids()
    await letDaysPass(server.databaseUrl, 1 / 24)
    await keys.rotate(['RS256'])
    await until(async () => (await kids()).length === before.length + 2, 6_000)
    const present = new Set(await kids())
    t.true([...before, ...once].every((kid) => present.has(kid)))
  },
)
