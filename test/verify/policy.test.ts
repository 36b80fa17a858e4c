import test from 'ava'
import { CompactEncrypt, exportJWK, generateKeyPair, importJWK } from 'jose'
import type { VerifyEvent } from '../../packages/verify/events.ts'
import type { VerifierOptions } from '../../packages/verify/options.ts'
import { createVerifier, type VerifyRequest } from '../../packages/verify/verifier.ts'
import { makeKey } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'
import {
  accessToken,
  audience,
  bearerRequest,
  dpopProof,
  dpopRequest,
  issuer,
  jkt,
  jwks,
  start,
  verifierWith,
} from '../support/verify/world.ts'

const everywhere: Partial<VerifierOptions> = { tokenLocations: ['header', 'body', 'query'] }
const certificate = { thumbprint: jkt }

function inQuery(token: string): VerifyRequest {
  return { method: 'GET', url: `/notes?access_token=${token}`, headers: [] }
}

function inBody(token: string): VerifyRequest {
  const headers = ['Content-Type', 'application/x-www-form-urlencoded']
  return { method: 'POST', url: '/notes', headers, body: { access_token: token } }
}

for (const [place, request] of [
  ['query', inQuery],
  ['body', inBody],
] as const) {
  test(`checks a certificate-bound token in the ${place} where that is allowed`, async (t) => {
    const sent = request(accessToken({ cnf: { 'x5t#S256': jkt } }))
    const verifier = verifierWith(everywhere)
    await refused(t, 'certificate_missing', () => verifier.verify(sent))
    const { location } = await verifier.verify({ ...sent, certificate })
    t.is(location, place)
    await refused(t, 'credentials_location', () => verifierWith().verify({ ...sent, certificate }))
  })

  test(`refuses a DPoP-bound token in the ${place} in any case`, async (t) => {
    const token = accessToken()
    const sent = request(token)
    const headers = [...(sent.headers as string[]), 'DPoP', dpopProof(token, { htm: sent.method })]
    for (const options of [{}, everywhere]) {
      await refused(t, 'dpop_token_leaked', () =>
        verifierWith(options).verify({ ...sent, headers }),
      )
    }
  })
}

test('accepts an unbound token in the query only with a switch of its own', async (t) => {
  const request = inQuery(accessToken({ cnf: undefined }))
  const lax = { ...everywhere, allowBearer: true }
  await refused(t, 'bearer_refused', () => verifierWith(lax).verify(request))
  const laxer = verifierWith({ ...lax, allowUnboundTokenInQuery: true })
  const { responseHeaders } = await laxer.verify(request)
  t.deepEqual(responseHeaders, { 'Cache-Control': 'no-store' })
  const { responseHeaders: others } = await verifierWith(lax).verify(
    inBody(accessToken({ cnf: undefined })),
  )
  t.deepEqual(others, {})
})

test('keeps what a query token brings out of caches', async (t) => {
  const request = { ...inQuery(accessToken({ cnf: { 'x5t#S256': jkt } })), certificate }
  const { responseHeaders } = await verifierWith(everywhere).verify(request)
  t.is(responseHeaders['Cache-Control'], 'no-store')
})

test('maps paths as a rewriting proxy does', async (t) => {
  const publicPaths = { '/': '/api', '/internal': '/v1', '/internal/x/': '/' }
  const verifier = verifierWith({ publicPaths })
  for (const [url, shown] of [
    ['/notes?a=1', '/api/notes'],
    ['/', '/api/'],
    ['/internal', '/v1'],
    ['/internal/notes', '/v1/notes'],
    ['/internals', '/api/internals'],
    ['/internal/x/y', '/y'],
  ]) {
    const token = accessToken()
    const right = dpopProof(token, { htu: `${audience}${shown}` })
    await t.notThrowsAsync(
      verifier.verify({ ...dpopRequest(token, right), url: url as string }),
      url,
    )
    const wrong = dpopProof(token, { htu: `${audience}${url}` })
    await refused(t, 'dpop_uri', () =>
      verifier.verify({ ...dpopRequest(token, wrong), url: url as string }),
    )
  }
})

test('holds each of several issuers to its own policy', async (t) => {
  const other = 'https://other.example'
  const key = makeKey()
  const verifier = createVerifier({
    audience,
    now: () => start * 1000,
    issuers: [
      { issuer, jwks },
      {
        issuer: other,
        jwks: { keys: [{ ...key.publicJwk, kid: 'k1' }] },
        audience: 'urn:other',
        methods: ['mtls'],
        allowBearer: true,
      },
    ],
  })
  await t.notThrowsAsync(verifier.verify(dpopRequest()))
  const bearer = { iss: other, aud: 'urn:other', cnf: undefined }
  await t.notThrowsAsync(verifier.verify(bearerRequest(accessToken(bearer, {}, key))))
  const refusals: [Parameters<typeof refused>[1], string][] = [
    ['token_signature', accessToken(bearer)],
    ['token_signature', accessToken({}, {}, key)],
    ['token_audience', accessToken({ ...bearer, aud: audience }, {}, key)],
    ['confirmation_method', accessToken({ ...bearer, cnf: { tbh: jkt } }, {}, key)],
    ['bearer_refused', accessToken({ cnf: undefined })],
    ['token_issuer', accessToken({ iss: 'https://third.example' }, {}, key)],
  ]
  for (const [code, token] of refusals) {
    await refused(t, code, () => verifier.verify(bearerRequest(token)))
  }
})

test('asks whether a token was revoked each time', async (t) => {
  const revoked = new Set<unknown>()
  const verifier = verifierWith({ isRevoked: async ({ claims }) => revoked.has(claims.jti) })
  const token = accessToken({ jti: 'one' })
  await t.notThrowsAsync(verifier.verify(dpopRequest(token)))
  revoked.add('one')
  await refused(t, 'token_revoked', () => verifier.verify(dpopRequest(token)))
})

test('refuses when nobody can say whether a token was revoked', async (t) => {
  const failing = verifierWith({ isRevoked: () => Promise.reject(new Error('down')) })
  await refused(t, 'revocation_unavailable', () => failing.verify(dpopRequest()))
  const silent = verifierWith({ isRevoked: () => undefined as never })
  await refused(t, 'token_revoked', () => silent.verify(dpopRequest()))
})

async function encryption() {
  const { publicKey, privateKey } = await generateKeyPair('ECDH-ES', { extractable: true })
  const jwk = { ...(await exportJWK(privateKey)), alg: 'ECDH-ES', kid: 'e1' }
  const encrypt = (token: string, header: Record<string, unknown> = {}) =>
    new CompactEncrypt(Buffer.from(token))
      .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', kid: 'e1', cty: 'JWT', ...header })
      .encrypt(publicKey)
  return { jwk, encrypt }
}

test('decrypts a token, and binds the proof to the encrypted form', async (t) => {
  const { jwk, encrypt } = await encryption()
  const verifier = verifierWith({ decryption: { keys: [jwk] }, requireEncryption: true })
  const inner = accessToken()
  const token = await encrypt(inner)
  await t.notThrowsAsync(verifier.verify(dpopRequest(token)))
  await refused(t, 'dpop_token_hash', () => verifier.verify(dpopRequest(token, dpopProof(inner))))
  await refused(t, 'token_encryption', () => verifier.verify(dpopRequest(inner)))
})

test('rejects what it cannot decrypt', async (t) => {
  const { jwk, encrypt } = await encryption()
  const stranger = await encryption()
  const verifier = verifierWith({ decryption: { keys: [jwk] } })
  const direct = await new CompactEncrypt(Buffer.from(accessToken()))
    .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
    .encrypt(await importJWK({ kty: 'oct', k: Buffer.alloc(32).toString('base64url') }, 'dir'))
  for (const token of [
    await stranger.encrypt(accessToken()),
    await encrypt(accessToken(), { kid: 'e2' }),
    await encrypt(accessToken(), { enc: 'A192GCM' }),
    direct,
    'a.b.c.d.e',
  ]) {
    await refused(t, 'token_encryption', () => verifier.verify(dpopRequest(token)))
  }
  const unsigned = await encrypt('{"iss":"x"}')
  await refused(t, 'token_malformed', () => verifier.verify(dpopRequest(unsigned)))
})

test('reports what it accepts, refuses, and finds leaked, without contents', async (t) => {
  const events: VerifyEvent[] = []
  const verifier = verifierWith({ onEvent: (event) => events.push(event) })
  const token = accessToken({ jti: 'one' })
  const identity = { issuer, clientId: 'app', jti: 'one' }
  await verifier.verify(dpopRequest(token))
  await refused(t, 'dpop_token_leaked', () => verifier.verify(inQuery(token)))
  await refused(t, 'credentials_missing', () => verifier.verify({ ...inBody(''), body: {} }))
  t.like(events, [
    { type: 'accepted', methods: ['dpop'], location: 'header', token: identity },
    { type: 'leaked', location: 'query', token: identity },
    { type: 'refused', code: 'dpop_token_leaked', status: 401, enforced: true, token: identity },
    { type: 'refused', code: 'credentials_missing', token: undefined },
  ])
  t.false(JSON.stringify(events).includes(token.slice(-20)))
})

test('lets no listener decide', async (t) => {
  const verifier = verifierWith({
    onEvent: () => {
      throw new Error('broken')
    },
  })
  await t.notThrowsAsync(verifier.verify(dpopRequest()))
  await refused(t, 'token_malformed', () => verifier.verify(dpopRequest('x')))
})

test('asks for scopes', async (t) => {
  const verifier = verifierWith({ dpop: { algorithms: ['ES256'] } })
  const verified = await verifier.verify(dpopRequest(accessToken({ scope: 'a b' })))
  t.notThrows(() => verifier.checkRequirements(verified, { scopes: ['b', 'a'] }))
  const error = await refused(t, 'insufficient_scope', () =>
    verifier.checkRequirements(verified, { scopes: ['a', 'c'] }),
  )
  t.is(error.status, 403)
  t.deepEqual(error.challenges, [
    'Bearer',
    'DPoP error="insufficient_scope", error_description="Access token lacks a scope", scope="a c", algs="ES256"',
  ])
  const without = await verifier.verify(dpopRequest(accessToken({ scope: undefined })))
  await refused(t, 'insufficient_scope', () =>
    verifier.checkRequirements(without, { scopes: ['a'] }),
  )
})

test('asks for a stronger or more recent authentication', async (t) => {
  const verifier = verifierWith({ dpop: { algorithms: ['ES256'] } })
  const verified = await verifier.verify(
    dpopRequest(accessToken({ acr: 'gold', auth_time: start - 100 })),
  )
  const demand = (acrValues: string[], maxAge?: number) => () =>
    verifier.checkRequirements(verified, { acrValues, ...(maxAge && { maxAge }) })
  t.notThrows(demand(['silver', 'gold'], 90))
  t.notThrows(demand([]))
  const code = 'insufficient_user_authentication'
  const level = await refused(t, code, demand(['platinum', 'silver'], 100))
  t.is(level.status, 401)
  t.regex(level.challenges[1] ?? '', /acr_values="platinum silver", max_age="100"/)
  await refused(t, code, demand(['gold'], 89))
  const unknown = await verifier.verify(dpopRequest())
  await refused(t, code, () => verifier.checkRequirements(unknown, { maxAge: 1000 }))
  await refused(t, code, () => verifier.checkRequirements(unknown, { acrValues: ['gold'] }))
})

const contradictions: [option: string, options: Record<string, unknown>][] = [
  ['tokenLocations', { tokenLocations: ['cookie'] }],
  ['allowUnboundTokenInQuery', { allowUnboundTokenInQuery: true, allowBearer: true }],
  ['allowUnboundTokenInQuery', { allowUnboundTokenInQuery: true, ...everywhere }],
  ['mode', { mode: 'off' }],
  ['metadata', { metadata: {}, audience: 'notes', publicOrigin: 'https://api.example' }],
  ['resource', { resource: 'notes' }],
  ['requireEncryption', { requireEncryption: true }],
  ['decryption', { decryption: { keys: [] } }],
  ['decryption', { decryption: { keys: [{ kty: 'oct', k: 'AA', alg: 'dir' }] } }],
  ['publicPaths', { publicPaths: { internal: '/' } }],
  ['introspection', { introspection: { authentication: { method: 'none', clientId: 'a' } } }],
]

for (const [option, options] of contradictions) {
  test(`refuses to be made with ${JSON.stringify(options)}`, (t) => {
    const error = t.throws(() => verifierWith(options), { instanceOf: TypeError })
    t.true(error?.message.includes(option), error?.message)
  })
}
