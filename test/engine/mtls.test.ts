import { constants } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { type RequestOptions, request as resumptionRequest } from 'node:https'
import path from 'node:path'
import type { ConnectionOptions, TLSSocket } from 'node:tls'
import test, { type ExecutionContext } from 'ava'
import { decodeJwt } from 'jose'
import type { ClientMetadata, JWK } from 'oidc-provider'
import { cibaGrant } from '../../src/clients/grant-types.ts'
import { makeProof } from '../../src/doctor/proof.ts'
import { Fapi2Client } from '../conformance/fapi2-client.ts'
import {
  createAuthority,
  daysFromNow,
  selfSigned,
  type TestCertificate,
} from '../support/certificates.ts'
import {
  basic,
  createPerson,
  newKey,
  obtainCode,
  type PostOptions,
  post,
  refreshing,
} from '../support/flow.ts'
import { makeSigningKey } from '../support/jws.ts'
import { useMtlsServer } from '../support/mtls.ts'
import { replaceFile } from '../support/replace-file.ts'
import { api, email, password, type TestServer } from '../support/server.ts'
import { until } from '../support/until.ts'

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
    backchannel_authentication_endpoint: `${mtls.mtlsOrigin}/backchannel`,
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

test('binds a CIBA request without a certificate to the key of the assertion (fapi-ciba-id1 with private_key_jwt)', async (t) => {
  const second = makeSigningKey()
  const till = new Fapi2Client(server)
  await till.register({
    redirect_uris: [],
    response_types: [],
    grant_types: [cibaGrant],
    binding_method: 'mtls',
    endpoint_audience: true,
    jwks: {
      keys: [
        { ...till.key.jwk, kid: 'a' },
        { ...second.jwk, kid: 'b' },
      ],
    },
  })
  const asked = await post(server, '/backchannel', {
    ...till.assertion({ aud: `${server.issuer}/backchannel` }),
    ...till.authenticationRequest({ login_hint: email, binding_message: 'Counter 9' }),
  })
  t.is(asked.status, 200)
  const redeem = (shown: PostOptions | undefined, assertion = till.assertion()) => {
    const { auth_req_id } = asked.body
    return post(server, '/token', { ...assertion, grant_type: cibaGrant, auth_req_id }, shown)
  }
  const toEndpoint = till.assertion({ aud: `${mtls.mtlsOrigin}/token` })
  const pending = await redeem(withCertificate, toEndpoint)
  t.is(pending.body.error, 'authorization_pending')
  t.is((await redeem(undefined)).body.error, 'invalid_grant')
  const person = createPerson(server)
  const page = await person.browser.visit(`${server.issuer}/security/approvals`)
  const list = await person.browser.submit(page, 'Sign in', { email, password })
  await person.browser.submit(list, 'Allow')
  const byOther = till.assertion({}, {}, second)
  t.is((await redeem(withCertificate, byOther)).body.error, 'invalid_grant')
  const { body } = await redeem(withCertificate)
  const shown = { ...till.assertion(), token: body.access_token }
  const { cnf } = (await post(server, '/introspect', shown)).body
  t.deepEqual(cnf, { 'x5t#S256': certificate.thumbprint })
})

test('binds a CIBA request with a certificate to that certificate', async (t) => {
  const till = await new Fapi2Client(server).register({
    redirect_uris: [],
    response_types: [],
    grant_types: [cibaGrant],
    binding_method: 'mtls',
  })
  const parameters = {
    ...till.assertion(),
    ...till.authenticationRequest({ login_hint: 'nobody@example.com', binding_message: 'K' }),
  }
  const { body } = await post(server, '/backchannel', parameters, withCertificate)
  const { auth_req_id } = body
  const redeem = (shown: PostOptions) =>
    post(server, '/token', { ...till.assertion(), grant_type: cibaGrant, auth_req_id }, shown)
  t.is((await redeem(withOther)).body.error, 'invalid_grant')
  t.is((await redeem(withCertificate)).body.error, 'authorization_pending')
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

const published = new Map<string, TestCertificate>()
const mtlsOfKeySets = useMtlsServer(test, {}, async (url) => {
  const keys = [...published].flatMap(([at, certificate]) =>
    at === url ? [asJwk(certificate)] : [],
  )
  return { status: 200, headers: new Map(), body: Buffer.from(JSON.stringify({ keys })) }
})
const service = {
  application_type: 'web',
  redirect_uris: [],
  response_types: [],
  grant_types: ['client_credentials'],
  binding_method: 'mtls',
} satisfies Partial<ClientMetadata>

const addPki = (metadata: Partial<ClientMetadata>) =>
  mtlsOfKeySets.server.addClient({
    ...service,
    token_endpoint_auth_method: 'tls_client_auth',
    ...metadata,
  })

const addSelfSigned = (metadata: Partial<ClientMetadata>) =>
  mtlsOfKeySets.server.addClient({
    ...service,
    token_endpoint_auth_method: 'self_signed_tls_client_auth',
    ...metadata,
  })

const asJwk = ({ certificate, der }: TestCertificate): JWK => ({
  ...(certificate.publicKey.export({ format: 'jwk' }) as JWK),
  x5c: [der.toString('base64')],
})

const request = ({ client_id }: ClientMetadata, presented?: TestCertificate) =>
  post(
    mtlsOfKeySets.server,
    '/token',
    { grant_type: 'client_credentials', client_id },
    presented && {
      fetch: mtlsOfKeySets.fetchWith(presented),
      origin: mtlsOfKeySets.mtlsOrigin,
    },
  )

async function authenticated(t: ExecutionContext, client: ClientMetadata, by: TestCertificate) {
  const { status, body } = await request(client, by)
  t.is(status, 200)
  t.is(body.token_type, 'Bearer')
}

async function refused(t: ExecutionContext, client: ClientMetadata, by?: TestCertificate) {
  const { status, body } = await request(client, by)
  t.is(status, 401)
  t.is(body.error, 'invalid_client')
}

const names: [Partial<ClientMetadata>, Partial<ClientMetadata>][] = [
  [
    { tls_client_auth_subject_dn: 'CN=service,O=Example,C=SE' },
    { tls_client_auth_subject_dn: 'CN=service,O=Example,C=DK' },
  ],
  [{ tls_client_auth_san_dns: 'a.example.com' }, { tls_client_auth_san_dns: 'b.example.com' }],
  [{ tls_client_auth_san_uri: 'spiffe://x/a' }, { tls_client_auth_san_uri: 'spiffe://x/b' }],
  [{ tls_client_auth_san_ip: '2001:db8:0::1' }, { tls_client_auth_san_ip: '2001:db8::2' }],
  [{ tls_client_auth_san_email: 'a@example.com' }, { tls_client_auth_san_email: 'b@example.com' }],
]

for (const [its, anothers] of names) {
  const [property = ''] = Object.keys(its)

  test(`authenticates by ${property}`, async (t) => {
    const certificate = await mtlsOfKeySets.root.issue({
      subject: 'C=SE, O=Example, CN=service',
      names: [
        { type: 'dns', value: 'a.example.com' },
        { type: 'url', value: 'spiffe://x/a' },
        { type: 'ip', value: '2001:db8::1' },
        { type: 'email', value: 'a@example.com' },
      ],
    })
    await authenticated(t, await addPki(its), certificate)
    await refused(t, await addPki(anothers), certificate)
  })
}

const byName = { tls_client_auth_subject_dn: 'CN=service' }

test('refuses a client without a certificate', async (t) => {
  await refused(t, await addPki(byName))
})

test('refuses the right name from another authority', async (t) => {
  const stranger = await createAuthority('CN=Clients')
  await refused(t, await addPki(byName), await stranger.issue({ subject: 'CN=service' }))
})

test('refuses the right name in a self-signed certificate', async (t) => {
  await refused(t, await addPki(byName), await selfSigned({ subject: 'CN=service' }))
})

test('refuses an expired certificate', async (t) => {
  const expired = await mtlsOfKeySets.root.issue({
    subject: 'CN=service',
    notAfter: daysFromNow(-0.5),
  })
  await refused(t, await addPki(byName), expired)
})

test('refuses a revoked certificate, and says so in the log', async (t) => {
  const client = await addPki(byName)
  await refused(t, client, mtlsOfKeySets.revoked)
  const line = mtlsOfKeySets.server.logged.find((each) => each.includes(client.client_id))
  t.like(JSON.parse(line ?? '{}'), {
    event: 'client_certificate.untrusted',
    reason: 'revoked',
    client: client.client_id,
  })
})

test('takes a renewed certificate with the same name', async (t) => {
  const client = await addPki(byName)
  await authenticated(t, client, await mtlsOfKeySets.root.issue({ subject: 'CN=service' }))
  await authenticated(t, client, await mtlsOfKeySets.root.issue({ subject: 'CN=service' }))
})

test('a client of the right authority is bound to DPoP if it asks for that', async (t) => {
  const client = await addPki({ ...byName, binding_method: 'dpop' })
  const certificate = await mtlsOfKeySets.root.issue({ subject: 'CN=service' })
  const { body } = await post(
    mtlsOfKeySets.server,
    '/token',
    { grant_type: 'client_credentials', client_id: client.client_id },
    {
      fetch: mtlsOfKeySets.fetchWith(certificate),
      origin: mtlsOfKeySets.mtlsOrigin,
      key: await newKey(),
    },
  )
  t.is(body.token_type, 'DPoP')
})

for (const [title, metadata] of [
  ['no name', {}],
  ['two names', { ...byName, tls_client_auth_san_dns: 'a.example.com' }],
  ['a malformed name', { tls_client_auth_subject_dn: 'service' }],
  ['a network as address', { tls_client_auth_san_ip: '192.0.2.0/24' }],
] as const) {
  test(`a client cannot be registered with ${title}`, async (t) => {
    await t.throwsAsync(addPki(metadata), { code: 'invalid_client_metadata' })
  })
}

test('authenticates by a registered certificate, and by no other', async (t) => {
  const certificate = await selfSigned()
  const client = await addSelfSigned({ jwks: { keys: [asJwk(certificate)] } })
  await authenticated(t, client, certificate)
  await refused(t, client, await selfSigned())
  await refused(t, client, await mtlsOfKeySets.root.issue())
  await refused(t, client)
})

test('refuses a registered certificate that has expired', async (t) => {
  const expired = await selfSigned({ notAfter: daysFromNow(-0.5) })
  await refused(t, await addSelfSigned({ jwks: { keys: [asJwk(expired)] } }), expired)
})

test('a certificate of another client is that of another client', async (t) => {
  const [mine, theirs] = [await selfSigned(), await selfSigned()]
  await addSelfSigned({ jwks: { keys: [asJwk(theirs)] } })
  await refused(t, await addSelfSigned({ jwks: { keys: [asJwk(mine)] } }), theirs)
})

test('a key cannot be registered with the certificate of another', async (t) => {
  const [mine, theirs] = [asJwk(await selfSigned()), asJwk(await selfSigned())]
  for (const x5c of [theirs.x5c ?? [], ['no certificate'], []]) {
    await t.throwsAsync(addSelfSigned({ jwks: { keys: [{ ...mine, x5c }] } }), {
      code: 'invalid_client_metadata',
    })
  }
})

test('authenticates by the certificate that its jwks_uri publishes', async (t) => {
  const [first, second] = [await selfSigned(), await selfSigned()]
  published.set('https://keys.example/1', first).set('https://keys.example/2', second)
  const client = await addSelfSigned({ jwks_uri: 'https://keys.example/1' })
  await authenticated(t, client, first)
  await refused(t, client, second)
  const changed = await addSelfSigned({ jwks_uri: 'https://keys.example/2' })
  await authenticated(t, changed, second)
  await refused(t, changed, first)
})

test('rejects the code of another client', async (t) => {
  const web = {
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'] as ['code'],
    redirect_uris: ['https://app.example/callback'],
  }
  const [mine, theirs] = [await selfSigned(), await selfSigned()]
  const client = await addSelfSigned({ ...web, jwks: { keys: [asJwk(mine)] } })
  const thief = await addSelfSigned({ ...web, jwks: { keys: [asJwk(theirs)] } })
  const { exchange } = await obtainCode(createPerson(mtlsOfKeySets.server), client, {
    redirect_uri: web.redirect_uris[0] as string,
  })
  const by = (who: TestCertificate) => ({
    fetch: mtlsOfKeySets.fetchWith(who),
    origin: mtlsOfKeySets.mtlsOrigin,
  })
  const stolen = { ...exchange, client_id: thief.client_id }
  t.is((await post(mtlsOfKeySets.server, '/token', stolen, by(theirs))).body.error, 'invalid_grant')
  t.is(
    (await post(mtlsOfKeySets.server, '/token', exchange, by(theirs))).body.error,
    'invalid_client',
  )
  const { body } = await post(mtlsOfKeySets.server, '/token', exchange, by(mine))
  const refresh = refreshing(client, body.refresh_token)
  t.is(
    (await post(mtlsOfKeySets.server, '/token', refresh, by(theirs))).body.error,
    'invalid_client',
  )
  t.is((await post(mtlsOfKeySets.server, '/token', refresh, by(mine))).status, 200)
})
// The listener of this process that asks for certificates, and TLS sessions that are resumed.

// Without lists: of the clients of an intermediate there would have to be one of its own.
const resumptionMtls = useMtlsServer(test, { HOLDFAST_CLIENT_CRL_FILE: '' })
let clientId: string
let ca: string

test.before(async () => {
  ca = await readFile(resumptionMtls.server.authorityFile ?? '', 'utf8')
  const { client_id } = await resumptionMtls.server.addClient({
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    token_endpoint_auth_method: 'tls_client_auth',
    tls_client_auth_subject_dn: 'CN=resuming',
    binding_method: 'mtls',
  })
  clientId = client_id
})

interface Connection {
  readonly version: 'TLSv1.2' | 'TLSv1.3'
  readonly certificate?: Pick<TestCertificate, 'cert' | 'key'> | undefined
  readonly session?: Buffer | undefined
  /** Sessions that the server would have to remember, by their ID. */
  readonly withoutTickets?: boolean
  readonly origin?: string
}

interface Answer {
  readonly resumed: boolean
  readonly session: Buffer | undefined
  readonly status: number | undefined
  /** What the token is bound to. */
  readonly thumbprint: string | undefined
}

/** Asks for a token on a connection of its own. */
function ask({
  version,
  certificate,
  session,
  withoutTickets = false,
  origin = resumptionMtls.mtlsOrigin,
}: Connection): Promise<Answer> {
  const options: RequestOptions & ConnectionOptions = {
    method: 'POST',
    agent: false,
    ca,
    ...certificate,
    session,
    minVersion: version,
    maxVersion: version,
    secureOptions: withoutTickets ? constants.SSL_OP_NO_TICKET : 0,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  }
  return new Promise((resolve, reject) => {
    const sent = resumptionRequest(`${origin}/token`, options, async (response) => {
      const resumed = (response.socket as TLSSocket).isSessionReused()
      const { access_token: token } = JSON.parse((await response.toArray()).join(''))
      const cnf = token && (decodeJwt(token).cnf as { 'x5t#S256'?: string })
      const thumbprint = cnf?.['x5t#S256']
      resolve({ resumed, session: last ?? session, status: response.statusCode, thumbprint })
    })
    let last: Buffer | undefined
    sent.on('socket', (socket) => socket.on('session', (given: Buffer) => (last = given)))
    sent.on('error', reject)
    sent.end(
      new URLSearchParams({
        grant_type: 'client_credentials',
        client_id: clientId,
        scope: 'read',
        resource: api,
      }).toString(),
    )
  })
}

const named = { subject: 'CN=resuming' }

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  test(`${version}: a resumed connection has the certificate of the first`, async (t) => {
    const certificate = await resumptionMtls.root.issue(named)
    let { session, thumbprint } = await ask({ version, certificate })
    t.is(thumbprint, certificate.thumbprint)
    for (let round = 1; round <= 3; round += 1) {
      const again = await ask({ version, certificate, session })
      t.true(again.resumed)
      t.is(again.thumbprint, certificate.thumbprint)
      ;({ session } = again)
    }
  })

  test(`${version}: a resumed connection by an intermediate`, async (t) => {
    const intermediate = await resumptionMtls.root.intermediate()
    const { cert, key, thumbprint } = await intermediate.issue(named)
    const chained = { cert: `${cert}\n${intermediate.cert}`, key }
    const { session, status } = await ask({ version, certificate: chained })
    t.is(status, 200)
    const again = await ask({ version, certificate: chained, session })
    t.true(again.resumed)
    t.is(again.thumbprint, thumbprint)
  })

  test(`${version}: sessions without tickets`, async (t) => {
    const certificate = await resumptionMtls.root.issue(named)
    const { session, thumbprint } = await ask({ version, certificate, withoutTickets: true })
    t.is(thumbprint, certificate.thumbprint)
    const again = await ask({ version, certificate, session, withoutTickets: true })
    t.is(again.thumbprint, certificate.thumbprint)
  })

  test(`${version}: without a certificate, neither connection has one`, async (t) => {
    const { session, status } = await ask({ version })
    t.is(status, 401)
    const again = await ask({ version, session })
    t.true(again.resumed)
    t.is(again.status, 401)
  })

  test(`${version}: who resumes without a certificate cannot bring one later`, async (t) => {
    const { session } = await ask({ version })
    const certificate = await resumptionMtls.root.issue(named)
    const again = await ask({ version, certificate, session })
    t.true(again.resumed ? again.status === 401 : again.thumbprint === certificate.thumbprint)
  })

  test(`${version}: a resumed connection is the one that was, whatever it shows`, async (t) => {
    const [mine, other] = [
      await resumptionMtls.root.issue(named),
      await resumptionMtls.root.issue(named),
    ]
    const { session } = await ask({ version, certificate: mine })
    const again = await ask({ version, certificate: other, session })
    t.is(again.thumbprint, again.resumed ? mine.thumbprint : other.thumbprint)
  })

  test(`${version}: many clients at once keep their own`, async (t) => {
    const clients = await Promise.all(
      Array.from({ length: 8 }, () => resumptionMtls.root.issue(named)),
    )
    const rounds = clients.map(async (certificate) => {
      let session: Buffer | undefined
      for (let round = 0; round < 4; round += 1) {
        const answer = await ask({ version, certificate, session })
        t.is(answer.thumbprint, certificate.thumbprint)
        session = answer.session
      }
    })
    await Promise.all(rounds)
  })

  test(`${version}: does not resume a session of one port at the other`, async (t) => {
    const certificate = await resumptionMtls.root.issue(named)
    const { issuer: origin } = resumptionMtls.server
    const browser = await ask({ version, certificate, origin })
    t.is(browser.status, 401)
    const there = await ask({ version, certificate, session: browser.session })
    t.false(there.resumed)
    t.is(there.thumbprint, certificate.thumbprint)
    const back = await ask({ version, certificate, session: there.session, origin })
    t.false(back.resumed)
    t.is(back.status, 401)
  })
}

const authorityMtls = useMtlsServer(test)

async function newClient() {
  const { client_id } = await authorityMtls.server.addClient({
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    token_endpoint_auth_method: 'tls_client_auth',
    tls_client_auth_subject_dn: 'CN=rotating',
    binding_method: 'mtls',
  })
  return (fetch: typeof globalThis.fetch) =>
    post(
      authorityMtls.server,
      '/token',
      { grant_type: 'client_credentials', client_id },
      { origin: authorityMtls.mtlsOrigin, fetch },
    )
}

const events = (name: string) =>
  authorityMtls.server.logged.filter((line) => line.includes(`"event":"${name}"`)).length

test('lists and authorities change while connections are open', async (t) => {
  const { server, root, folder, fetchWith } = authorityMtls
  const replace = async (name: 'ca' | 'crl', text: string) =>
    replaceFile(path.join(folder, `${name}.pem`), text)
  const ask = await newClient()
  const issue = async (authority = root) => {
    const certificate = await authority.issue({ subject: 'CN=rotating' })
    return { certificate, fetch: fetchWith(certificate) }
  }
  const client = await issue()
  t.is((await ask(client.fetch)).status, 200)

  // Its certificate is revoked: the connection that it has is of no use any more.
  await replace('crl', await root.crl([client.certificate]))
  await until(async () => (await ask(client.fetch)).status === 401)
  const next = await issue()
  t.is((await ask(next.fetch)).status, 200)
  t.is(events('client_authorities.changed'), 1)

  // A list that is not one: what was revoked stays so, and all others go on.
  await replace('crl', 'not a list')
  await until(async () => events('client_authorities.unusable') === 1)
  t.is((await ask(client.fetch)).status, 401)
  t.is((await ask(next.fetch)).status, 200)

  // A second authority comes beside the first.
  const second = await createAuthority('CN=Second')
  const ofSecond = await issue(second)
  t.is((await ask(ofSecond.fetch)).status, 401)
  const lists = async (...revoked: TestCertificate[]) =>
    `${await root.crl(revoked)}\n${await second.crl()}`
  await replace('ca', `${root.cert}\n${second.cert}`)
  await replace('crl', await lists(client.certificate))
  await until(async () => (await ask(ofSecond.fetch)).status === 200)
  t.is((await ask(next.fetch)).status, 200)

  // A list that has ended says nothing about anybody.
  await replace(
    'crl',
    `${await root.crl([], { nextUpdate: daysFromNow(-0.5) })}\n${await second.crl()}`,
  )
  await until(async () => (await ask(next.fetch)).status === 401)
  t.is((await ask(ofSecond.fetch)).status, 200)
  t.is(events('client_crl.expired'), 1)

  await server.flushAudit()
  const kinds = (await server.storage.audit.list({ limit: 1000 })).map(({ event }) => event)
  for (const kind of [
    'client_authorities.changed',
    'client_authorities.unusable',
    'client_crl.expired',
  ]) {
    t.true(kinds.includes(kind), kind)
  }
  // What strangers cause is counted, and no row of the audit trail.
  const counted = await server.storage.countedEvents.list({ limit: 1000 })
  t.true(counted.some(({ event }) => event === 'client_certificate.untrusted'))
  const metrics = await (await fetch(`http://${server.operators}/metrics`)).text()
  t.regex(metrics, /holdfast_client_authority_reloads_total\{outcome="used"\} [2-9]/)
  t.regex(metrics, /holdfast_client_authority_reloads_total\{outcome="refused"\} [1-9]/)
  t.regex(metrics, /holdfast_client_crl_next_update_timestamp_seconds 1\d{9}/)
})
