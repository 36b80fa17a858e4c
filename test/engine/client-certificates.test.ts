import test, { type ExecutionContext } from 'ava'
import type { ClientMetadata, JWK } from 'oidc-provider'
import {
  createAuthority,
  daysFromNow,
  selfSigned,
  type TestCertificate,
} from '../support/certificates.ts'
import { createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { useMtlsServer } from '../support/mtls.ts'

const published = new Map<string, TestCertificate>()
const mtls = useMtlsServer(test, {}, async (url) => {
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
  mtls.server.addClient({ ...service, token_endpoint_auth_method: 'tls_client_auth', ...metadata })

const addSelfSigned = (metadata: Partial<ClientMetadata>) =>
  mtls.server.addClient({
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
    mtls.server,
    '/token',
    { grant_type: 'client_credentials', client_id },
    presented && { fetch: mtls.fetchWith(presented), origin: mtls.mtlsOrigin },
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
    const certificate = await mtls.root.issue({
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
  const expired = await mtls.root.issue({ subject: 'CN=service', notAfter: daysFromNow(-0.5) })
  await refused(t, await addPki(byName), expired)
})

test('refuses a revoked certificate, and says so in the log', async (t) => {
  const client = await addPki(byName)
  await refused(t, client, mtls.revoked)
  const line = mtls.server.logged.find((each) => each.includes(client.client_id))
  t.like(JSON.parse(line ?? '{}'), {
    event: 'client_certificate.untrusted',
    reason: 'revoked',
    client: client.client_id,
  })
})

test('takes a renewed certificate with the same name', async (t) => {
  const client = await addPki(byName)
  await authenticated(t, client, await mtls.root.issue({ subject: 'CN=service' }))
  await authenticated(t, client, await mtls.root.issue({ subject: 'CN=service' }))
})

test('a client of the right authority is bound to DPoP if it asks for that', async (t) => {
  const client = await addPki({ ...byName, binding_method: 'dpop' })
  const certificate = await mtls.root.issue({ subject: 'CN=service' })
  const { body } = await post(
    mtls.server,
    '/token',
    { grant_type: 'client_credentials', client_id: client.client_id },
    { fetch: mtls.fetchWith(certificate), origin: mtls.mtlsOrigin, key: await newKey() },
  )
  t.is(body.token_type, 'DPoP')
})

for (const [title, metadata] of [
  ['no name', {}],
  ['two names', { ...byName, tls_client_auth_san_dns: 'a.example.com' }],
  ['a name that is none', { tls_client_auth_subject_dn: 'service' }],
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
  await refused(t, client, await mtls.root.issue())
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

test('the code of one client is nothing to another', async (t) => {
  const web = {
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'] as ['code'],
    redirect_uris: ['https://app.example/callback'],
  }
  const [mine, theirs] = [await selfSigned(), await selfSigned()]
  const client = await addSelfSigned({ ...web, jwks: { keys: [asJwk(mine)] } })
  const thief = await addSelfSigned({ ...web, jwks: { keys: [asJwk(theirs)] } })
  const { exchange } = await obtainCode(createPerson(mtls.server), client, {
    redirect_uri: web.redirect_uris[0] as string,
  })
  const by = (who: TestCertificate) => ({ fetch: mtls.fetchWith(who), origin: mtls.mtlsOrigin })
  const stolen = { ...exchange, client_id: thief.client_id }
  t.is((await post(mtls.server, '/token', stolen, by(theirs))).body.error, 'invalid_grant')
  t.is((await post(mtls.server, '/token', exchange, by(theirs))).body.error, 'invalid_client')
  const { body } = await post(mtls.server, '/token', exchange, by(mine))
  const refresh = refreshing(client, body.refresh_token)
  t.is((await post(mtls.server, '/token', refresh, by(theirs))).body.error, 'invalid_client')
  t.is((await post(mtls.server, '/token', refresh, by(mine))).status, 200)
})
