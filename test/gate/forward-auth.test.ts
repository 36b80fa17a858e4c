import test from 'ava'
import { gateVerifierWith, startGate } from '../support/gate.ts'
import { sendRequest } from '../support/raw-request.ts'
import { accessToken, audience, dpopProof } from '../support/verify/fixtures.ts'

const application = {
  origin: audience,
  upstream: { url: 'http://127.0.0.1:1' },
  routes: [{ path: '/admin', scopes: ['admin'] }],
}
const settings = { trustedProxies: ['127.0.0.1'], applications: [application] }

/** Asks as a proxy does; every proof is a new one. */
async function ask(
  forwardAuth: Record<string, unknown>,
  lines: (proof: { token: string; dpop: string }) => readonly string[],
  { change = {}, target = '/authorize', host = 'gate' } = {},
) {
  await using gate = await startGate({ ...settings, forwardAuth, ...change })
  const token = accessToken()
  const dpop = dpopProof(token)
  return await sendRequest(`http://127.0.0.1:${gate.forwardAuthPort}`, {
    target,
    host,
    headers: [`Authorization: DPoP ${token}`, `DPoP: ${dpop}`, ...lines({ token, dpop })],
  })
}

const original = [
  ...['X-Original-Method: GET', 'X-Original-Host: api.example', 'X-Original-URI: /notes?limit=3'],
]
const forwarded = [
  ...[
    'X-Forwarded-Method: GET',
    'X-Forwarded-Host: api.example',
    'X-Forwarded-Uri: /notes?limit=3',
  ],
]

for (const [proxy, lines, own] of [
  ['nginx', original, {}],
  ['haproxy', original, {}],
  ['traefik', forwarded, {}],
  ['caddy', forwarded, {}],
  ['envoy', [], { target: '/notes?limit=3', host: 'api.example' }],
] as const) {
  test(`answers ${proxy} with an assertion for the request that it asks about`, async (t) => {
    const { status, headers } = await ask({ proxy, port: 0 }, () => lines, own)
    t.is(status, 200)
    const names = ['holdfast-identity', 'signature', 'signature-input', 'content-digest']
    const fields = names.flatMap((name) => [name, headers.get(name) ?? ''])
    const request = { method: 'GET', url: '/notes?limit=3', headers: fields }
    const { identity } = await gateVerifierWith().verify(request)
    t.is(identity?.claims.sub, 'alice')
  })
}

test('does not look at the fields of another proxy', async (t) => {
  const { status, json } = await ask({ proxy: 'nginx', port: 0 }, () => forwarded)
  t.is(status, 403)
  t.is(json.error, 'asked')
})

test('refuses a field that is there twice', async (t) => {
  const twice = [...original, 'X-Original-URI: /admin']
  const { status, json } = await ask({ proxy: 'haproxy', port: 0 }, () => twice)
  t.is(status, 400)
  t.is(json.error, 'asked')
})

test('answers trusted proxies only', async (t) => {
  const change = { trustedProxies: ['192.0.2.1'] }
  const { status, json } = await ask({ proxy: 'nginx', port: 0 }, () => original, { change })
  t.is(status, 403)
  t.is(json.error, 'peer')
})

test('applies hosts, paths and rules to what the client wrote', async (t) => {
  const asks = (uri: string, host = 'api.example') =>
    ask({ proxy: 'haproxy', port: 0 }, () => [
      ...['X-Original-Method: GET', `X-Original-Host: ${host}`, `X-Original-URI: ${uri}`],
    ])
  t.is((await asks('/notes', 'evil.example')).status, 421)
  t.is((await asks('/public/../notes')).status, 400)
  t.is((await asks('/ADMIN')).status, 400)
  const elsewhere = await asks('/other')
  t.is(elsewhere.status, 401)
  t.regex(elsewhere.headers.get('www-authenticate') ?? '', /^Bearer, DPoP error=/)
})

test('gives an application that verifies by itself nothing', async (t) => {
  const change = { applications: [{ ...application, mode: 'pass' }] }
  const { status, headers } = await ask({ proxy: 'nginx', port: 0 }, () => original, { change })
  t.is(status, 200)
  t.is(headers.get('signature'), null)
})

test('gives no digest of a body that it does not get', async (t) => {
  await using gate = await startGate({ ...settings, forwardAuth: { proxy: 'nginx', port: 0 } })
  const token = accessToken()
  const dpop = dpopProof(token, { htm: 'POST' })
  const { status, headers } = await sendRequest(`http://127.0.0.1:${gate.forwardAuthPort}`, {
    target: '/authorize',
    headers: [
      ...[`Authorization: DPoP ${token}`, `DPoP: ${dpop}`, 'X-Original-Method: POST'],
      ...original.slice(1),
    ],
  })
  t.is(status, 200)
  t.is(headers.get('content-digest'), null)
})

test('refuses to decide about its own pages: the proxy would take them for a yes', async (t) => {
  await using gate = await startGate(
    {
      ...{ ...settings, forwardAuth: { proxy: 'haproxy', port: 0 } },
      applications: [{ ...application, mode: 'sign', openid: { clientId: 'app' } }],
      browsers: { secretFiles: ['unused'] },
    },
    { secrets: [Buffer.alloc(32, 7)] },
  )
  const paths = ['/.gate/sign-out', '/.gate', '/.well-known/device-bound-sessions']
  for (const path of [...paths, '/.well-known/holdfast-gate/jwks.json']) {
    const { status, json } = await sendRequest(`http://127.0.0.1:${gate.forwardAuthPort}`, {
      target: '/authorize',
      headers: [...original.slice(0, 2), `X-Original-URI: ${path}`],
    })
    t.is(status, 404, path)
    t.is(json.error, 'not_routed')
  }
})

for (const [cookie, kept] of [
  ['a=1; __Host-gate=secret; b=2', 'a=1; b=2'],
  ['__Host-gate-bound=secret', null],
] as const) {
  test(`answers with the cookies that an application may get: ${kept}`, async (t) => {
    const lines = () => [...original, `Cookie: ${cookie}`]
    const { status, headers } = await ask({ proxy: 'nginx', port: 0 }, lines)
    t.is(status, 200)
    t.is(headers.get('cookie'), kept)
    const own = { target: '/notes?limit=3', host: 'api.example' }
    const envoy = await ask({ proxy: 'envoy', port: 0 }, () => [`Cookie: ${cookie}`], own)
    const removed = envoy.headers.get('x-envoy-auth-headers-to-remove')
    t.is(removed, kept === null ? 'cookie' : null)
  })
}
