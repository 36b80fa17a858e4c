import test from 'ava'
import { ClientCertificateError } from '../../packages/verify/client-certificate.ts'
import { createDPoPNonces } from '../../packages/verify/dpop-nonce.ts'
import type { VerifyEvent } from '../../packages/verify/events.ts'
import { adapters } from '../support/verify/adapters.ts'
import {
  accessToken,
  audience,
  dpopProof,
  issuer,
  start,
  url,
  verifierWith,
} from '../support/verify/world.ts'

function request(target = url, token = accessToken(), claims: Record<string, unknown> = {}) {
  const proof = dpopProof(token, { htu: `${audience}${target.split('?')[0]}`, ...claims })
  const headers = [
    ['Authorization', `DPoP ${token}`],
    ['DPoP', proof],
  ] as const
  return { method: 'GET', target, headers }
}

const part = (text: string) => Buffer.from(text).toString('base64url')
/** Deep enough to overflow the stack of code that recurses. */
const nested = `{"iss":${'['.repeat(5900)}${']'.repeat(5900)}}`

const overHttp = Object.entries(adapters).filter(([name]) => name !== 'core')

for (const [name, adapter] of Object.entries(adapters)) {
  test(`${name} hands on what was verified`, async (t) => {
    await using target = await adapter(verifierWith())
    const reply = await target.send(request())
    t.is(reply.status, 200)
    t.is(reply.body, '{"sub":"alice"}')
  })

  test(`${name} asks for scopes where a route needs them`, async (t) => {
    await using target = await adapter(verifierWith())
    const refused = await target.send(request('/admin'))
    t.is(refused.status, 403)
    t.is(JSON.parse(refused.body).error, 'insufficient_scope')
    const token = accessToken({ scope: 'notes:read admin' })
    t.is((await target.send(request('/admin', token))).status, 200)
  })

  test(`${name} rejects an unsigned token of nested arrays`, async (t) => {
    await using target = await adapter(verifierWith())
    for (const token of [`${part('{}')}.${part(nested)}.AA`, `${part(nested)}.${part('{}')}.AA`]) {
      const { status, body } = await target.send(request(url, token))
      t.is(status, 401)
      t.is(JSON.parse(body).error, 'invalid_token')
    }
  })

  test(`${name} rejects two Authorization header fields`, async (t) => {
    const everywhere = { tokenLocations: ['header', 'query'], allowBearer: true } as const
    await using target = await adapter(
      verifierWith({ ...everywhere, allowUnboundTokenInQuery: true }),
    )
    const bearer = accessToken({ cnf: undefined })
    const basic = ['Authorization', 'Basic YTpi'] as const
    const token = ['Authorization', `Bearer ${bearer}`] as const
    for (const fields of [
      [token, token],
      [token, basic],
      [basic, token],
    ]) {
      // The client of HTTP/2 sends no field twice; something on the way may have joined the two.
      const joined = fields.map(([, value]) => value).join(', ')
      const headers = name.endsWith('h2') ? [['Authorization', joined] as const] : fields
      for (const target_ of ['/', `/?access_token=${bearer}`]) {
        const { status, body } = await target.send({ method: 'GET', target: target_, headers })
        t.is(status, 400, `${headers}`)
        t.is(JSON.parse(body).error, 'invalid_request')
      }
    }
    t.is((await target.send({ method: 'GET', target: '/', headers: [token] })).status, 200)
  })
}

for (const [name, adapter] of overHttp) {
  test(`${name} answers with challenges that other origins may read`, async (t) => {
    await using target = await adapter(verifierWith({ dpop: { algorithms: ['ES256'] } }))
    const { status, headers, body } = await target.send({ method: 'GET', target: url, headers: [] })
    t.is(status, 401)
    t.is(headers['www-authenticate']?.join(', '), 'Bearer, DPoP algs="ES256"')
    t.is(headers['access-control-expose-headers']?.[0], 'WWW-Authenticate, DPoP-Nonce')
    t.is(headers['cache-control']?.[0], 'no-store')
    t.regex(headers['content-type']?.[0] ?? '', /^application\/json/)
    t.is(JSON.parse(body).error_description, 'Request has no access token')
  })

  test(`${name} hands out nonces`, async (t) => {
    const nonces = createDPoPNonces({ secrets: [Buffer.alloc(32, 1)] })
    await using target = await adapter(verifierWith({ dpop: { nonces } }))
    const refused = await target.send(request())
    const nonce = refused.headers['dpop-nonce']?.[0]
    t.is(JSON.parse(refused.body).error, 'use_dpop_nonce')
    t.is((await target.send(request(url, accessToken(), { nonce }))).status, 200)

    const old = nonces.current(start - 150)
    const { headers } = await target.send(request(url, accessToken(), { nonce: old }))
    t.is(headers['dpop-nonce']?.[0], nonce)
    t.is(headers['cache-control']?.[0], 'no-store')
  })

  test(`${name} publishes the metadata of the resource`, async (t) => {
    await using target = await adapter(verifierWith({ metadata: {} }))
    const path = '/.well-known/oauth-protected-resource'
    const { status, headers, body } = await target.send({
      method: 'GET',
      target: path,
      headers: [],
    })
    t.is(status, 200)
    t.is(headers['access-control-allow-origin']?.[0], '*')
    t.like(JSON.parse(body), { resource: audience, authorization_servers: [issuer] })
  })

  test(`${name} lets everything pass in observe mode, and reports it`, async (t) => {
    const events: VerifyEvent[] = []
    const onEvent = (event: VerifyEvent) => events.push(event)
    await using target = await adapter(verifierWith({ mode: 'observe', onEvent }))
    const unknown = await target.send({ method: 'GET', target: '/admin', headers: [] })
    t.is(unknown.status, 200)
    t.is(unknown.body, '{}')
    t.is((await target.send(request('/admin'))).status, 200)
    t.like(events, [
      { type: 'refused', code: 'credentials_missing', enforced: false },
      { type: 'accepted' },
      { type: 'refused', code: 'insufficient_scope', enforced: false },
    ])
  })

  test(`${name} keeps what a query token brings out of caches`, async (t) => {
    const options = { tokenLocations: ['query'], allowBearer: true } as const
    const verifier = verifierWith({ ...options, allowUnboundTokenInQuery: true })
    await using target = await adapter(verifier)
    const token = accessToken({ cnf: undefined })
    const sent = { method: 'GET', target: `/?access_token=${token}`, headers: [] }
    const { status, headers } = await target.send(sent)
    t.is(status, 200)
    t.is(headers['cache-control']?.[0], 'no-store')
  })

  test(`${name} refuses a certificate that somebody else has forwarded`, async (t) => {
    const facts = () => {
      throw new ClientCertificateError('untrusted_peer', 'not from the proxy')
    }
    const events: VerifyEvent[] = []
    const onEvent = (event: VerifyEvent) => events.push(event)
    await using target = await adapter(verifierWith({ onEvent }), facts)
    t.is((await target.send(request())).status, 400)
    t.like(events, [{ type: 'refused', code: 'facts_refused' }])
  })

  test(`${name} works behind a proxy that strips a prefix`, async (t) => {
    await using target = await adapter(verifierWith({ publicPaths: { '/': '/api' } }))
    const seen = { htu: `${audience}/api/notes` }
    t.is((await target.send(request('/notes', accessToken(), seen))).status, 200)
    t.is((await target.send(request('/notes'))).status, 401)
  })
}
