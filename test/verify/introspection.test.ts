import test from 'ava'
import { jwtVerify } from 'jose'
import type { ClientAuthentication } from '../../packages/verify/client-authentication.ts'
import { createJwks } from '../../packages/verify/jwks.ts'
import { metadataUrl } from '../../packages/verify/metadata.ts'
import type { IntrospectionOptions, VerifierOptions } from '../../packages/verify/options.ts'
import { createVerifier } from '../../packages/verify/verifier.ts'
import {
  accessToken,
  audience,
  bearerRequest,
  dpopRequest,
  issuer,
  issuerKey,
  jkt,
  jwks,
  start,
  verifierWith,
} from '../support/verify/fixtures.ts'
import { makeKey, signJws } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'

const endpoint = `${issuer}/introspect`
const basic = { method: 'client_secret_basic', clientId: 'api', clientSecret: 's:/ ü' } as const
const active = { active: true, aud: audience, sub: 'alice', token_type: 'DPoP', cnf: { jkt } }

type Asked = { url: string; init: RequestInit; form: URLSearchParams }

/** An issuer that gives one answer, and a verifier that asks it. */
function makeFixtures(
  answer: () => Response | Promise<Response>,
  asking: Partial<IntrospectionOptions> = {},
  options: Partial<VerifierOptions> = {},
) {
  const asked: Asked[] = []
  const state = { now: start }
  const verifier = createVerifier({
    issuer,
    audience,
    jwks,
    introspection: { endpoint, authentication: basic, ...asking },
    now: () => state.now * 1000,
    fetch: async (url, init) => {
      asked.push({ url, init, form: new URLSearchParams(String(init.body)) })
      return answer()
    },
    ...options,
  })
  return { asked, state, verifier }
}

test('asks the issuer about a token, and believes the answer for a while', async (t) => {
  const { asked, state, verifier } = makeFixtures(() => Response.json(active))
  const verified = await verifier.verify(dpopRequest('opaque'))
  t.is(verified.token.format, 'introspection')
  t.deepEqual(verified.claims, { ...verified.claims, iss: issuer, sub: 'alice' })
  t.false('active' in verified.claims)
  const [{ url, init, form }] = asked as [Asked]
  t.is(url, endpoint)
  t.is(init.method, 'POST')
  t.is(init.redirect, 'error')
  t.deepEqual(Object.fromEntries(form), { token: 'opaque', token_type_hint: 'access_token' })

  state.now += 14
  await t.notThrowsAsync(verifier.verify(dpopRequest('opaque')))
  t.is(asked.length, 1)
  state.now += 1
  await t.notThrowsAsync(verifier.verify(dpopRequest('opaque')))
  t.is(asked.length, 2)
})

test('asks once for many concurrent requests with one token', async (t) => {
  const { asked, verifier } = makeFixtures(() => Response.json(active))
  await Promise.all(Array.from({ length: 9 }, () => verifier.verify(dpopRequest('opaque'))))
  t.is(asked.length, 1)
})

test('asks about JWTs too', async (t) => {
  const { asked, verifier } = makeFixtures(() => Response.json(active))
  await verifier.verify(dpopRequest(accessToken({}, {}, makeKey())))
  t.is(asked.length, 1)
})

test('remembers for a while that a token is inactive', async (t) => {
  const { asked, state, verifier } = makeFixtures(() => Response.json({ active: false }))
  await refused(t, 'token_inactive', () => verifier.verify(dpopRequest('opaque')))
  state.now += 14
  await refused(t, 'token_inactive', () => verifier.verify(dpopRequest('opaque')))
  t.is(asked.length, 1)
  state.now += 1
  await refused(t, 'token_inactive', () => verifier.verify(dpopRequest('opaque')))
  t.is(asked.length, 2)
})

test('checks the expiry of a remembered answer', async (t) => {
  const { state, verifier } = makeFixtures(() => Response.json({ ...active, exp: start + 1 }))
  await verifier.verify(dpopRequest('opaque'))
  state.now += 11
  await refused(t, 'token_expired', () => verifier.verify(dpopRequest('opaque')))
})

const answers: [title: string, code: Parameters<typeof refused>[1], answer: object][] = [
  ['is active as a text', 'token_inactive', { ...active, active: 'true' }],
  ['has no active', 'token_inactive', { ...active, active: undefined }],
  ['names another issuer', 'token_issuer', { ...active, iss: 'https://evil.example' }],
  ['names another audience', 'token_audience', { ...active, aud: 'https://b.example' }],
  ['names no audience', 'token_audience', { ...active, aud: undefined }],
  ['has expired', 'token_expired', { ...active, exp: start - 10 }],
  ['has an exp text', 'token_claims', { ...active, exp: '1' }],
  ['is not valid yet', 'token_not_yet_valid', { ...active, nbf: start + 11 }],
  ['lost its cnf', 'confirmation_malformed', { ...active, cnf: undefined }],
  ['is bound, but not of type DPoP', 'confirmation_malformed', { ...active, token_type: 'Bearer' }],
  [
    'is bound to another key',
    'dpop_key_mismatch',
    { ...active, cnf: { jkt: jkt.replace(/^./, 'A') } },
  ],
  [
    'is bound in an unknown way',
    'confirmation_unknown',
    { ...active, token_type: undefined, cnf: { kid: 'x' } },
  ],
]

for (const [title, code, answer] of answers) {
  test(`rejects a token whose answer ${title}`, async (t) => {
    const { verifier } = makeFixtures(() => Response.json(answer))
    await refused(t, code, () => verifier.verify(dpopRequest('opaque')))
  })
}

test('rejects an active bearer token', async (t) => {
  const { verifier } = makeFixtures(() => Response.json({ active: true, aud: audience }))
  await refused(t, 'bearer_refused', () => verifier.verify(bearerRequest('opaque')))
})

for (const [title, answer] of [
  ['an error', () => new Response('', { status: 500 })],
  ['an error with an answer', () => Response.json(active, { status: 500 })],
  ['no JSON', () => new Response('active')],
  ['the same member twice', () => new Response('{"active":false, "active":true}')],
  ['too much', () => new Response('x'.repeat(1_048_577))],
  ['nothing', () => Promise.reject(new Error('connection refused'))],
] as const) {
  test(`is unavailable, and not fooled, when the issuer answers ${title}`, async (t) => {
    const { verifier } = makeFixtures(answer)
    const error = await refused(t, 'issuer_unavailable', () => verifier.verify(dpopRequest('a')))
    t.is(error.status, 503)
    t.deepEqual(error.challenges, [])
  })
}

test('does not ask about what is no token', async (t) => {
  const { asked, verifier } = makeFixtures(() => Response.json(active))
  await refused(t, 'token_malformed', () => verifier.verify(dpopRequest('a"b', 'x')))
  t.is(asked.length, 0)
})

test('finds the endpoint in the metadata of the issuer', async (t) => {
  const urls: string[] = []
  const verifier = createVerifier({
    issuer,
    audience,
    jwks,
    introspection: { authentication: basic },
    now: () => start * 1000,
    fetch: async (url) => {
      urls.push(url)
      return Response.json(url === endpoint ? active : { issuer, introspection_endpoint: endpoint })
    },
  })
  await verifier.verify(dpopRequest('one'))
  await verifier.verify(dpopRequest('two'))
  const metadata = `${issuer}/.well-known/oauth-authorization-server`
  t.deepEqual(urls, [metadata, endpoint, endpoint])
})

async function authenticated(authentication: ClientAuthentication): Promise<Asked> {
  const { asked, verifier } = makeFixtures(() => Response.json(active), { authentication })
  await verifier.verify(dpopRequest('opaque'))
  return asked[0] as Asked
}

test('authenticates with Basic, form-encoded', async (t) => {
  const { init, form } = await authenticated(basic)
  const { authorization } = init.headers as Record<string, string>
  const pair = Buffer.from(authorization?.split(' ')[1] ?? '', 'base64').toString()
  t.is(pair, 'api:s%3A%2F+%C3%BC')
  t.false(form.has('client_id'))
})

test('authenticates in the form, with a certificate, and with an assertion', async (t) => {
  const post = await authenticated({ ...basic, method: 'client_secret_post' })
  t.is(post.form.get('client_secret'), basic.clientSecret)
  const mtls = await authenticated({ method: 'tls_client_auth', clientId: 'api' })
  t.is(mtls.form.get('client_id'), 'api')

  const key = makeKey()
  const privateKey = { ...key.privateJwk, kid: 'r1' }
  const { form } = await authenticated({ method: 'private_key_jwt', clientId: 'api', privateKey })
  const { payload, protectedHeader } = await jwtVerify(
    form.get('client_assertion') ?? '',
    key.publicJwk,
    { issuer: 'api', subject: 'api', audience: issuer, currentDate: new Date(start * 1000) },
  )
  t.is(protectedHeader.kid, 'r1')
  t.is(payload.exp, start + 60)
})

test('refuses to be made with a key that is not of P-256', (t) => {
  const { privateJwk: privateKey } = makeKey('ES384')
  const authentication = { method: 'private_key_jwt', clientId: 'api', privateKey } as const
  t.throws(() => makeFixtures(() => Response.json(active), { authentication }), {
    message: /must be a P-256 key/,
  })
})

function signedAnswer(
  claims: Record<string, unknown> = {},
  header: Record<string, unknown> = {},
  key = issuerKey,
): Response {
  const jwt = signJws(
    key,
    { typ: 'token-introspection+jwt', alg: key.alg, kid: 'k1', ...header },
    { iss: issuer, aud: 'api', iat: start, token_introspection: active, ...claims },
  )
  return new Response(jwt, { headers: { 'content-type': 'application/token-introspection+jwt' } })
}

test('accepts a signed answer', async (t) => {
  const { asked, verifier } = makeFixtures(() => signedAnswer(), { signed: true })
  await t.notThrowsAsync(verifier.verify(dpopRequest('opaque')))
  t.is(new Headers(asked[0]?.init.headers).get('accept'), 'application/token-introspection+jwt')
})

for (const [title, answer] of [
  ['is not signed', () => Response.json(active)],
  ['is of another media type', async () => new Response(await signedAnswer().text())],
  ['is signed by another key', () => signedAnswer({}, {}, makeKey())],
  ['is of another typ', () => signedAnswer({}, { typ: 'at+jwt' })],
  ['is from another issuer', () => signedAnswer({ iss: 'https://evil.example' })],
  ['is for another client', () => signedAnswer({ aud: 'other' })],
  ['says nothing', () => signedAnswer({ token_introspection: undefined })],
] as const) {
  test(`does not use a signed answer that ${title}`, async (t) => {
    const { verifier } = makeFixtures(answer, { signed: true })
    await refused(t, 'issuer_unavailable', () => verifier.verify(dpopRequest('opaque')))
  })
}

test('uses no answer that is signed by an algorithm which is not accepted', async (t) => {
  const key = makeKey('PS256')
  const of = (algorithms: readonly string[]) =>
    makeFixtures(
      () => signedAnswer({}, {}, key),
      { signed: true },
      { algorithms, jwks: { keys: [{ ...key.publicJwk, kid: 'k1' }] } },
    ).verifier
  await t.notThrowsAsync(of(['PS256']).verify(dpopRequest('opaque')))
  await refused(t, 'issuer_unavailable', () => of(['ES256']).verify(dpopRequest('opaque')))
})

test('asks about 1,000 tokens at once and no more', async (t) => {
  const { promise, resolve } = Promise.withResolvers<Response>()
  const { asked, verifier } = makeFixtures(async () => (await promise).clone())
  const ask = (name: number) => verifier.verify(bearerRequest(`opaque${name}`))
  const uses = Promise.allSettled(Array.from({ length: 1000 }, (_, name) => ask(name)))
  await refused(t, 'issuer_unavailable', () => ask(1000))
  t.is(asked.length, 1000)
  resolve(Response.json({ active: false }))
  await uses
  await refused(t, 'token_inactive', () => ask(1000))
})

/** An issuer whose answers a test decides, on a clock that it moves. */
function makeIssuer() {
  const state = { now: start, set: jwks as object | Error, fetched: 0, failures: [] as unknown[] }
  const keys = createJwks({
    source: async () => 'https://as.example/jwks',
    fetch: async () => {
      state.fetched++
      if (state.set instanceof Error) throw state.set
      return Response.json(state.set)
    },
    now: () => state.now,
    maxAge: 600,
    onFailure: (cause) => state.failures.push(cause),
    maxStale: 3600,
    cooldown: 30,
  })
  return { state, keys }
}

const k2 = { keys: [{ ...makeKey().publicJwk, kid: 'k2' }] }

test('fetches once for many concurrent tokens, and not again while fresh', async (t) => {
  const { state, keys } = makeIssuer()
  await Promise.all(Array.from({ length: 9 }, () => keys.find('ES256', 'k1')))
  state.now += 600
  t.false(keys.find('ES256', 'k1') instanceof Promise)
  t.is(state.fetched, 1)
})

test('fetches again for an unknown key, but not before the cool-down is over', async (t) => {
  const { state, keys } = makeIssuer()
  await keys.find('ES256', 'k1')
  state.set = k2
  for (let i = 0; i < 9; i++) {
    await refused(t, 'token_key', () => keys.find('ES256', 'k2'))
    state.now += 3
  }
  t.is(state.fetched, 1)
  state.now += 3
  await t.notThrowsAsync(async () => keys.find('ES256', 'k2'))
  await refused(t, 'token_key', () => keys.find('ES256', 'k1'))
  t.is(state.fetched, 2)
})

test('drops a key that the issuer has dropped', async (t) => {
  const { state, keys } = makeIssuer()
  await keys.find('ES256', 'k1')
  state.set = k2
  state.now += 601
  await refused(t, 'token_key', () => keys.find('ES256', 'k1'))
})

test('serves old keys for a bounded time while the issuer is down', async (t) => {
  const { state, keys } = makeIssuer()
  await keys.find('ES256', 'k1')
  state.set = new Error('down')
  state.now += 4200
  await t.notThrowsAsync(async () => keys.find('ES256', 'k1'))
  state.now += 1
  await refused(t, 'issuer_unavailable', () => keys.find('ES256', 'k1'))
  state.now += 30
  const error = await refused(t, 'issuer_unavailable', () => keys.find('ES256', 'k1'))
  t.is(error.status, 503)
  state.set = jwks
  state.now += 30
  await t.notThrowsAsync(async () => keys.find('ES256', 'k1'))
})

for (const set of [{}, { keys: 'none' }, [], new Error('no')]) {
  test(`is unavailable when the first key set is ${JSON.stringify(set)} ${set}`, async (t) => {
    const { state, keys } = makeIssuer()
    state.set = set
    await refused(t, 'issuer_unavailable', () => keys.find('ES256', 'k1'))
  })
}

test('is unavailable when the key set has more than 1,000 keys', async (t) => {
  const { state, keys } = makeIssuer()
  state.set = { keys: Array.from({ length: 1001 }, () => jwks.keys[0]) }
  await refused(t, 'issuer_unavailable', () => keys.find('ES256', 'k1'))
})

const metadata = `${issuer}/.well-known/oauth-authorization-server`
const openid = `${issuer}/.well-known/openid-configuration`
const jwksUri = `${issuer}/keys`

function discovering(documents: Record<string, unknown>) {
  const asked: string[] = []
  const redirects: unknown[] = []
  const verifier = createVerifier({
    issuer,
    audience,
    now: () => start * 1000,
    fetch: async (url, init) => {
      asked.push(url)
      redirects.push(init.redirect)
      const body = documents[url]
      return body === undefined ? new Response('', { status: 404 }) : Response.json(body)
    },
  })
  return { asked, redirects, verifier }
}

test('finds the keys through RFC 8414 metadata, following no redirect', async (t) => {
  const { asked, redirects, verifier } = discovering({
    [metadata]: { issuer, jwks_uri: jwksUri },
    [jwksUri]: jwks,
  })
  await t.notThrowsAsync(verifier.verify(dpopRequest()))
  t.deepEqual(asked, [metadata, jwksUri])
  t.true(redirects.every((redirect) => redirect === 'error'))
})

test('finds the keys through OpenID Connect metadata', async (t) => {
  const { asked, verifier } = discovering({
    [openid]: { issuer, jwks_uri: jwksUri },
    [jwksUri]: jwks,
  })
  await t.notThrowsAsync(verifier.verify(dpopRequest()))
  t.deepEqual(asked, [metadata, openid, jwksUri])
})

for (const [title, document] of [
  ['of another issuer', { issuer: 'https://evil.example', jwks_uri: jwksUri }],
  ['without jwks_uri', { issuer }],
  ['with a jwks_uri over plain HTTP', { issuer, jwks_uri: 'http://as.example/keys' }],
] as const) {
  test(`does not use metadata ${title}`, async (t) => {
    const { verifier } = discovering({ [metadata]: document, [jwksUri]: jwks })
    await refused(t, 'issuer_unavailable', () => verifier.verify(dpopRequest()))
  })
}

for (const [resource, expected] of [
  ['https://api.example', 'https://api.example/.well-known/oauth-protected-resource'],
  ['https://api.example/', 'https://api.example/.well-known/oauth-protected-resource'],
  ['https://api.example/a/b', 'https://api.example/.well-known/oauth-protected-resource/a/b'],
  ['https://api.example/a?b=c', 'https://api.example/.well-known/oauth-protected-resource/a?b=c'],
]) {
  test(`puts the metadata of ${resource} at ${expected}`, (t) => {
    t.is(metadataUrl(resource as string), expected as string)
  })
}

test('says what is enforced', (t) => {
  const verifier = verifierWith({
    metadata: { resource_name: 'Notes', scopes_supported: ['notes:read'] },
    dpop: { algorithms: ['ES256'] },
  })
  t.deepEqual(verifier.metadata, {
    path: '/.well-known/oauth-protected-resource',
    document: {
      resource: audience,
      authorization_servers: [issuer],
      bearer_methods_supported: ['header'],
      dpop_signing_alg_values_supported: ['ES256'],
      dpop_bound_access_tokens_required: false,
      tls_client_certificate_bound_access_tokens: true,
      resource_name: 'Notes',
      scopes_supported: ['notes:read'],
    },
  })
})

test('says that DPoP is required where nothing else is accepted', (t) => {
  const { metadata } = verifierWith({ metadata: {}, methods: ['dpop'] })
  t.is(metadata?.document.dpop_bound_access_tokens_required, true)
  t.is(metadata?.document.tls_client_certificate_bound_access_tokens, false)
})

test('points to itself in challenges', async (t) => {
  const verifier = verifierWith({
    metadata: {},
    methods: ['dpop'],
    dpop: { algorithms: ['ES256'] },
  })
  const error = await refused(t, 'credentials_missing', () =>
    verifier.verify({ method: 'GET', url: '/', headers: [] }),
  )
  t.deepEqual(error.challenges, [
    `DPoP algs="ES256", resource_metadata="${audience}/.well-known/oauth-protected-resource"`,
  ])
})

test('publishes nothing unless asked', (t) => {
  t.is(verifierWith().metadata, undefined)
})
