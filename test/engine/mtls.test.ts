import test from 'ava'
import { decodeJwt } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { makeProof } from '../../src/doctor/proof.ts'
import { daysFromNow, selfSigned, type TestCertificate } from '../support/certificates.ts'
import {
  basic,
  createPerson,
  newKey,
  obtainCode,
  type PostOptions,
  post,
  refreshing,
} from '../support/flow.ts'
import { useMtlsServer } from '../support/mtls.ts'
import { api, type TestServer } from '../support/server.ts'

const mtls = useMtlsServer(test)
const web = { application_type: 'web', redirect_uris: ['https://app.example/callback'] } as const
const redirect_uri = web.redirect_uris[0]

let server: TestServer
let client: ClientMetadata
let confidential: ClientMetadata
let certificate: TestCertificate
let other: TestCertificate
let withCertificate: PostOptions
let withOther: PostOptions

test.before(async () => {
  server = mtls.server
  client = await server.addClient({ binding_method: 'mtls' })
  confidential = await server.addClient({
    ...web,
    binding_method: 'mtls',
    token_endpoint_auth_method: 'client_secret_basic',
  })
  certificate = await selfSigned()
  other = await selfSigned()
  withCertificate = presenting(certificate)
  withOther = presenting(other)
})

const presenting = (who: TestCertificate): PostOptions => ({
  fetch: mtls.fetchWith(who),
  origin: mtls.mtlsOrigin,
})

const codeFor = async (who: ClientMetadata, parameters: Record<string, string> = {}) => {
  const { exchange } = await obtainCode(createPerson(server), who, parameters)
  return exchange
}
const issued = async (parameters: Record<string, string> = {}) =>
  post(server, '/token', await codeFor(client, parameters), withCertificate)

test('metadata names the endpoints that ask for certificates', async (t) => {
  const response = await fetch(`${server.issuer}/.well-known/openid-configuration`)
  const metadata = (await response.json()) as Record<string, unknown>
  t.true(metadata.tls_client_certificate_bound_access_tokens)
  t.deepEqual(metadata.mtls_endpoint_aliases, {
    token_endpoint: `${mtls.mtlsOrigin}/token`,
    pushed_authorization_request_endpoint: `${mtls.mtlsOrigin}/par`,
    introspection_endpoint: `${mtls.mtlsOrigin}/introspect`,
    revocation_endpoint: `${mtls.mtlsOrigin}/revoke`,
    userinfo_endpoint: `${mtls.mtlsOrigin}/userinfo`,
  })
  t.is(metadata.token_endpoint, `${server.issuer}/token`)
  const methods = metadata.token_endpoint_auth_methods_supported as string[]
  t.true(methods.includes('tls_client_auth'))
  t.true(methods.includes('self_signed_tls_client_auth'))
})

test('the origin of certificates has no pages and no metadata', async (t) => {
  const { fetch } = withCertificate
  for (const path of ['/authorize', '/.well-known/openid-configuration', '/jwks', '/']) {
    t.is((await fetch?.(`${mtls.mtlsOrigin}${path}`))?.status, 404, path)
  }
})

test('a code with a certificate becomes tokens bound to it', async (t) => {
  const exchange = await codeFor(client, { scope: 'openid read', resource: api })
  const { status, body } = await post(
    server,
    '/token',
    { ...exchange, resource: api },
    withCertificate,
  )
  t.is(status, 200)
  t.is(body.token_type, 'Bearer')
  t.deepEqual(decodeJwt(body.access_token).cnf, { 'x5t#S256': certificate.thumbprint })
})

test('introspection tells what the tokens are bound to', async (t) => {
  const { body } = await issued()
  for (const token of [body.access_token, body.refresh_token]) {
    const { body: seen } = await post(server, '/introspect', { token, client_id: client.client_id })
    t.deepEqual(seen.cnf, { 'x5t#S256': certificate.thumbprint })
  }
})

test('a token request without a certificate is refused before the code is looked up', async (t) => {
  const exchange = await codeFor(client)
  const refused = await post(server, '/token', exchange)
  t.is(refused.status, 400)
  t.is(refused.body.error, 'invalid_grant')
  t.regex(refused.body.error_description, /mtls_endpoint_aliases/)
  const unknown = await post(server, '/token', { ...exchange, code: 'unknown' })
  t.deepEqual(unknown.body, refused.body)
  t.is((await post(server, '/token', exchange, withCertificate)).status, 200)
})

test('an expired certificate counts as none', async (t) => {
  const expired = presenting(await selfSigned({ notAfter: daysFromNow(-0.5) }))
  const refused = await post(server, '/token', await codeFor(client), expired)
  t.is(refused.body.error, 'invalid_grant')
  t.regex(refused.body.error_description, /has not expired/)
})

test('a refresh without a certificate is invalid_grant and consumes nothing', async (t) => {
  const { body } = await issued()
  const refresh = refreshing(client, body.refresh_token)
  t.is((await post(server, '/token', refresh)).body.error, 'invalid_grant')
  t.is((await post(server, '/token', refresh, withCertificate)).status, 200)
})

test('a refresh with another certificate is invalid_grant and consumes nothing', async (t) => {
  const { body } = await issued()
  const refresh = refreshing(client, body.refresh_token)
  t.is((await post(server, '/token', refresh, withOther)).body.error, 'invalid_grant')
  t.is((await post(server, '/token', refresh, withCertificate)).status, 200)
})

test('the binding is kept through every rotation', async (t) => {
  let { body } = await issued()
  for (const round of [1, 2, 3]) {
    const refresh = refreshing(client, body.refresh_token)
    t.is((await post(server, '/token', refresh, withOther)).body.error, 'invalid_grant')
    ;({ body } = await post(server, '/token', refresh, withCertificate))
    t.truthy(body.refresh_token, `round ${round}`)
  }
})

test('the refresh token of a confidential client is bound as well', async (t) => {
  const headers = basic(confidential)
  const exchange = await codeFor(confidential, { redirect_uri })
  let { body } = await post(server, '/token', exchange, { ...withCertificate, headers })
  for (const round of [1, 2]) {
    const refresh = refreshing(confidential, body.refresh_token)
    const refused = await post(server, '/token', refresh, { ...withOther, headers })
    t.is(refused.body.error, 'invalid_grant', `round ${round}`)
    ;({ body } = await post(server, '/token', refresh, { ...withCertificate, headers }))
  }
  t.truthy(body.refresh_token)
})

test('a refresh token bound to a DPoP key is refused once the client is bound by mTLS', async (t) => {
  const changing = await server.addClient()
  const key = await newKey()
  const { body } = await post(server, '/token', await codeFor(changing), { key })
  await server.storage.clients.remove(changing.client_id)
  await server.addClient({ client_id: changing.client_id, binding_method: 'mtls' })
  const refresh = refreshing(changing, body.refresh_token)
  const refused = await post(server, '/token', refresh, withCertificate)
  t.is(refused.body.error, 'invalid_grant')
})

test('a DPoP proof beside the certificate is refused and consumes nothing', async (t) => {
  const exchange = await codeFor(client)
  const key = await newKey()
  const refused = await post(server, '/token', exchange, { ...withCertificate, key })
  t.is(refused.body.error, 'invalid_request')
  t.is((await post(server, '/token', exchange, withCertificate)).status, 200)
})

test('a DPoP client stays bound to its key, whatever certificate it has', async (t) => {
  const dpop = await server.addClient()
  const code = await codeFor(dpop, { scope: 'openid read', resource: api })
  const exchange = { ...code, resource: api }
  const key = await newKey()
  const refused = await post(server, '/token', exchange, withCertificate)
  t.is(refused.body.error, 'invalid_grant')
  const { body } = await post(server, '/token', exchange, { ...withCertificate, key })
  t.deepEqual(Object.keys(decodeJwt(body.access_token).cnf ?? {}), ['jkt'])
})

test('a proof for the issuer is no proof at the origin of certificates', async (t) => {
  const dpop = await server.addClient()
  const exchange = await codeFor(dpop)
  const proof = await makeProof(await newKey(), {
    method: 'POST',
    url: `${server.issuer}/token`,
  })
  const refused = await post(server, '/token', exchange, { ...withCertificate, proof })
  t.is(refused.body.error, 'invalid_dpop_proof')
})

const userinfo = async (token: string, { fetch = globalThis.fetch, origin }: PostOptions = {}) => {
  const response = await fetch(`${origin ?? server.issuer}/userinfo`, {
    headers: { authorization: `Bearer ${token}` },
  })
  return { status: response.status, challenge: response.headers.get('www-authenticate') ?? '' }
}

test('userinfo answers the certificate that the token is bound to, and nobody else', async (t) => {
  const { body } = await issued()
  t.is((await userinfo(body.access_token, withCertificate)).status, 200)
  for (const options of [withOther, {}]) {
    const { status, challenge } = await userinfo(body.access_token, options)
    t.is(status, 401)
    t.regex(challenge, /error="invalid_token"/)
  }
})

test('a client may say so by the flag of RFC 8705', async (t) => {
  const flagged = await server.addClient({ tls_client_certificate_bound_access_tokens: true })
  t.is(flagged.binding_method, 'mtls')
  t.false(flagged.dpop_bound_access_tokens)
})

for (const [title, metadata] of [
  ['bearer', { binding_method: 'bearer' }],
  ['DPoP by name', { binding_method: 'dpop' }],
  ['DPoP by its flag', { dpop_bound_access_tokens: true }],
] as const) {
  test(`a client cannot be bound to its certificate and ${title}`, async (t) => {
    await t.throwsAsync(
      server.addClient({ ...metadata, tls_client_certificate_bound_access_tokens: true }),
      { code: 'invalid_client_metadata' },
    )
  })
}

test('a certificate in a header is refused from anyone but a proxy', async (t) => {
  const headers = { 'client-cert': `:${certificate.der.toString('base64')}:` }
  const exchange = await codeFor(client)
  for (const options of [{ headers }, { ...withOther, headers }]) {
    const refused = await post(server, '/token', exchange, options)
    t.is(refused.status, 400)
    t.is(refused.body.error, 'invalid_request')
  }
  t.is((await post(server, '/token', exchange, withCertificate)).status, 200)
})
