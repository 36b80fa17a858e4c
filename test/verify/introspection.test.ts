import test from 'ava'
import { jwtVerify } from 'jose'
import type { ClientAuthentication } from '../../packages/verify/client-authentication.ts'
import type { IntrospectionOptions, VerifierOptions } from '../../packages/verify/options.ts'
import { createVerifier } from '../../packages/verify/verifier.ts'
import { makeKey, signJws } from '../support/verify/keys.ts'
import { refused } from '../support/verify/refused.ts'
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
} from '../support/verify/world.ts'

const endpoint = `${issuer}/introspect`
const basic = { method: 'client_secret_basic', clientId: 'api', clientSecret: 's:/ ü' } as const
const active = { active: true, aud: audience, sub: 'alice', token_type: 'DPoP', cnf: { jkt } }

type Asked = { url: string; init: RequestInit; form: URLSearchParams }

/** An issuer that gives one answer, and a verifier that asks it. */
function makeWorld(
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
  const { asked, state, verifier } = makeWorld(() => Response.json(active))
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
  const { asked, verifier } = makeWorld(() => Response.json(active))
  await Promise.all(Array.from({ length: 9 }, () => verifier.verify(dpopRequest('opaque'))))
  t.is(asked.length, 1)
})

test('asks about JWTs too', async (t) => {
  const { asked, verifier } = makeWorld(() => Response.json(active))
  await verifier.verify(dpopRequest(accessToken({}, {}, makeKey())))
  t.is(asked.length, 1)
})

test('remembers for a while that a token is inactive', async (t) => {
  const { asked, state, verifier } = makeWorld(() => Response.json({ active: false }))
  await refused(t, 'token_inactive', () => verifier.verify(dpopRequest('opaque')))
  state.now += 14
  await refused(t, 'token_inactive', () => verifier.verify(dpopRequest('opaque')))
  t.is(asked.length, 1)
  state.now += 1
  await refused(t, 'token_inactive', () => verifier.verify(dpopRequest('opaque')))
  t.is(asked.length, 2)
})

test('checks the expiry of a remembered answer', async (t) => {
  const { state, verifier } = makeWorld(() => Response.json({ ...active, exp: start + 1 }))
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
    const { verifier } = makeWorld(() => Response.json(answer))
    await refused(t, code, () => verifier.verify(dpopRequest('opaque')))
  })
}

test('rejects an active bearer token', async (t) => {
  const { verifier } = makeWorld(() => Response.json({ active: true, aud: audience }))
  await refused(t, 'bearer_refused', () => verifier.verify(bearerRequest('opaque')))
})

for (const [title, answer] of [
  ['an error', () => new Response('', { status: 500 })],
  ['no JSON', () => new Response('active')],
  ['the same member twice', () => new Response('{"active":false, "active":true}')],
  ['too much', () => new Response('x'.repeat(1_048_577))],
  ['nothing', () => Promise.reject(new Error('connection refused'))],
] as const) {
  test(`is unavailable, and not fooled, when the issuer answers ${title}`, async (t) => {
    const { verifier } = makeWorld(answer)
    const error = await refused(t, 'issuer_unavailable', () => verifier.verify(dpopRequest('a')))
    t.is(error.status, 503)
    t.deepEqual(error.challenges, [])
  })
}

test('does not ask about what is no token', async (t) => {
  const { asked, verifier } = makeWorld(() => Response.json(active))
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
  const { asked, verifier } = makeWorld(() => Response.json(active), { authentication })
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
  const { asked, verifier } = makeWorld(() => signedAnswer(), { signed: true })
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
    const { verifier } = makeWorld(answer, { signed: true })
    await refused(t, 'issuer_unavailable', () => verifier.verify(dpopRequest('opaque')))
  })
}
