// What an attacker sends to a gate, byte for byte, and to the application behind it.
import { hash, randomUUID } from 'node:crypto'
import test from 'ava'
import { readKey } from '../../packages/gate/load.ts'
import type { VerifyError, VerifyErrorCode } from '../../packages/verify/errors.ts'
import {
  type GateRequest,
  type GateSigning,
  type GateVerifierOptions,
  signGateRequest,
} from '../../packages/verify/gate.ts'
import {
  gateKey,
  gateVerifierWith,
  startApplication,
  startGate,
  type TestApplication,
  type TestGate,
} from '../support/gate.ts'
import { sendBytes } from '../support/raw-request.ts'
import { accessToken, audience, dpopProof, start } from '../support/verify/fixtures.ts'
import { makeKey } from '../support/verify/keys.ts'

const thief = await readKey(
  makeKey('EdDSA').privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
)

let application: TestApplication
let gate: TestGate
const opened = new AsyncDisposableStack()

test.before(async () => {
  application = opened.use(await startApplication())
  const settings = {
    origin: audience,
    upstream: { url: application.url },
    routes: [
      { path: '/admin', scopes: ['admin'] },
      { path: '/public', access: 'public' },
    ],
  }
  gate = opened.use(await startGate({ applications: [settings] }))
})
test.after.always(() => opened.disposeAsync())

interface Attack {
  readonly method?: string
  /** Under a folder of the row's own, unless it is a whole target. */
  readonly target?: string
  /** The target that the proof is for. */
  readonly proven?: string
  readonly host?: string
  readonly version?: string
  readonly lines?: readonly string[]
  readonly body?: string
  readonly token?: Record<string, unknown>
  readonly proof?: Record<string, unknown>
  /** Instead of the usual two credentials. */
  readonly credentials?: (token: string, proof: string) => readonly string[]
  /** Whether the client sends no more than this. */
  readonly cutOff?: boolean
  /** Changes the bytes of the head. */
  readonly edit?: (head: string) => string
}

/** Sends a request that is valid but for the attack; `path` is one that no other row uses. */
async function attack(row: Attack) {
  const { method = 'GET', version = '1.1', lines = [], body = '' } = row
  const { token: claims, proof: proofClaims } = row
  const path = `/${randomUUID()}`
  const target = row.target ?? path
  const token = accessToken(claims)
  const htu = audience + (row.proven ?? target.replace(/\?.*/, ''))
  const proof = dpopProof(token, { htm: method, htu, ...proofClaims })
  const credentials =
    row.credentials ?? ((): string[] => [`Authorization: DPoP ${token}`, `DPoP: ${proof}`])
  const host = row.host ?? 'Host: api.example'
  const head = [
    `${method} ${target} HTTP/${version}`,
    ...(host === '' ? [] : [host]),
    'Connection: close',
    ...credentials(token, proof),
    ...lines,
  ].join('\r\n')
  const edited = `${row.edit?.(head) ?? head}\r\n\r\n${body}`
  const before = application.received.length
  const answer = await sendBytes(gate.origin, Buffer.from(edited, 'latin1'), {
    cutOff: row.cutOff ?? false,
  })
  return { status: answer.status, answer, got: application.received.slice(before) }
}

const post = { method: 'POST' } as const
const smuggled = 'GET /admin HTTP/1.1\r\nHost: api.example\r\n\r\n'

/** Answered by 400 or the status beside, and never seen by the application. */
const refused: Record<string, Attack & { readonly status?: number }> = {
  'both Content-Length and Transfer-Encoding': {
    ...post,
    lines: ['Content-Length: 4', 'Transfer-Encoding: chunked'],
    body: `0\r\n\r\n${smuggled}`,
  },
  'Transfer-Encoding before Content-Length': {
    ...post,
    lines: ['Transfer-Encoding: chunked', 'Content-Length: 4'],
    body: `0\r\n\r\n${smuggled}`,
  },
  'two lengths that differ': {
    ...post,
    lines: ['Content-Length: 0', 'Content-Length: 44'],
    body: smuggled,
  },
  'two lengths that are the same': {
    ...post,
    lines: ['Content-Length: 1', 'Content-Length: 1'],
    body: 'x',
  },
  'a list of lengths': { ...post, lines: ['Content-Length: 1, 1'], body: 'x' },
  'a length with a sign': { ...post, lines: ['Content-Length: +1'], body: 'x' },
  'a negative length': { ...post, lines: ['Content-Length: -1'], body: 'x' },
  'a hexadecimal length': { ...post, lines: ['Content-Length: 0x1'], body: 'x' },
  'a length beyond all integers': {
    ...post,
    lines: ['Content-Length: 99999999999999999999999999'],
    body: 'x',
  },
  'an unknown transfer coding': {
    ...post,
    lines: ['Transfer-Encoding: xchunked'],
    body: '0\r\n\r\n',
  },
  'a transfer coding after chunked': {
    ...post,
    lines: ['Transfer-Encoding: chunked, identity'],
    body: '0\r\n\r\n',
  },
  'chunked twice': {
    ...post,
    lines: ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'],
    body: '0\r\n\r\n',
  },
  'a space before a colon': { ...post, lines: ['Transfer-Encoding : chunked'], body: '0\r\n\r\n' },
  'a folded header': { lines: ['X-A: 1\r\n Transfer-Encoding: chunked'] },
  'a folded host': { edit: (head) => head.replace('Host: api', 'Host: evil.example\r\n api') },
  'a space before the first header': { edit: (head) => head.replace('\r\nHost', '\r\n Host') },
  'a header without a name': { lines: [': x'] },
  'a header without a colon': { lines: ['Holdfast-Identity'] },
  'a lone line feed in a header': { lines: ['X-A: 1\nHoldfast-Identity: forged'] },
  'a lone carriage return in a header': { lines: ['X-A: 1\rHoldfast-Identity: forged'] },
  'a NUL in a header': { lines: ['X-A: 1\0'] },
  'lines that end with a line feed only': { edit: (head) => head.replaceAll('\r\n', '\n') },
  'a chunk size with a sign': {
    ...post,
    lines: ['Transfer-Encoding: chunked'],
    body: '+1\r\nx\r\n0\r\n\r\n',
  },
  'a chunk size beyond all integers': {
    ...post,
    lines: ['Transfer-Encoding: chunked'],
    body: 'fffffffffffffffff1\r\nx\r\n0\r\n\r\n',
  },
  'a chunk that ends with a line feed only': {
    ...post,
    lines: ['Transfer-Encoding: chunked'],
    body: '1\nx\n0\n\n',
  },
  'a chunk longer than its size': {
    ...post,
    lines: ['Transfer-Encoding: chunked'],
    body: `1\r\nxy\r\n0\r\n\r\n`,
  },
  'a body that ends early': { ...post, lines: ['Content-Length: 5'], body: 'x', cutOff: true },
  'two hosts': { host: 'Host: api.example\r\nHost: evil.example' },
  'one host twice': { host: 'Host: api.example\r\nHost: api.example' },
  'no host': { host: '' },
  'an empty host': { host: 'Host: ' },
  'an unknown host': { host: 'Host: evil.example', status: 421 },
  'a host with user information': { host: 'Host: api.example@evil.example', status: 421 },
  'a host with another port': { host: 'Host: api.example:8443', status: 421 },
  'a host with a dot at its end': { host: 'Host: api.example.', status: 421 },
  'an absolute target of another host': { target: 'https://evil.example/x', proven: '/x' },
  'an absolute target with user information': { target: 'https://a@api.example/x', proven: '/x' },
  'the target of a forward proxy': { method: 'CONNECT', target: 'api.example:443', proven: '/' },
  'the target *': { method: 'OPTIONS', target: '*', proven: '/' },
  'a target without a slash': { target: 'x', proven: '/x' },
  'a fragment in the target': { target: '/x#y', proven: '/x' },
  'a method in lower case': { method: 'get' },
  TRACE: { method: 'TRACE' },
  'another protocol version': { version: '2.0', status: 505 },
  'dot segments': { target: '/public/../admin' },
  'a dot segment': { target: '/public/./x' },
  'encoded dot segments': { target: '/public/%2e%2E/admin' },
  'dot segments that are encoded twice': { target: '/public/%252e%252e/admin' },
  'dot segments behind a semicolon': { target: '/public/..;/admin' },
  'dot segments behind an encoded slash': { target: '/public%2f..%2fadmin' },
  'an encoded slash': { target: '/public%2Fadmin' },
  'an encoded backslash': { target: '/public%5Cadmin' },
  'a backslash': { target: '/public\\..\\admin', proven: '/public' },
  'an empty segment': { target: '/public//admin' },
  'two slashes at the start': { target: '//evil.example/admin' },
  'a semicolon': { target: '/admin;x=/public' },
  'an encoded semicolon': { target: '/admin%3bx' },
  'an encoded NUL': { target: '/public%00/admin' },
  'an encoded line break': { target: '/public%0d%0aX' },
  'a percent sign alone': { target: '/public%', proven: '/public' },
  'a byte beyond ASCII in the path': { target: '/\xe4dmin', proven: '/' },
  'a protected path in other case': { target: '/ADMIN/users' },
  'a protected path with an encoded letter': { target: '/%61dmin/users' },
  'a protected path that is encoded twice': { target: '/%2561dmin/users' },
  'a forged client certificate': { lines: ['Client-Cert: :AAAA:'] },
  'a forged Token Binding ID': { lines: ['Sec-Provided-Token-Binding-ID: AAAA'] },
  'more header fields than clients send': {
    lines: Array.from({ length: 201 }, (_, at) => `X-${at}: 1`),
    status: 431,
  },
  'more header bytes than the limit': { lines: [`X-A: ${'a'.repeat(20_000)}`], status: 431 },
  'a body larger than is signed': {
    ...post,
    lines: ['Content-Length: 100000'],
    body: 'x'.repeat(100_000),
    status: 413,
  },
}

for (const [title, { status = 400, ...row }] of Object.entries(refused)) {
  test.serial(`refuses ${title}`, async (t) => {
    const result = await attack(row)
    t.is(result.status, status, result.answer.text)
    t.deepEqual(result.got, [])
  })
}

/** Credentials that are worth nothing here: 401, or the status beside, with a stable code. */
const unproven: Record<string, Attack & { readonly status?: number }> = {
  'no credentials': { credentials: () => [] },
  'a stolen token without its proof': { credentials: (token) => [`Authorization: DPoP ${token}`] },
  'a stolen token as a bearer token': {
    credentials: (token) => [`Authorization: Bearer ${token}`],
  },
  'a bearer token': {
    token: { cnf: undefined },
    credentials: (token) => [`Authorization: Bearer ${token}`],
  },
  'a proof by another key': {
    credentials: (token) => [
      `Authorization: DPoP ${token}`,
      `DPoP: ${dpopProof(token, {}, {}, makeKey())}`,
    ],
  },
  'a proof for another method': { proof: { htm: 'POST' } },
  'a proof for another path': { proven: '/other' },
  'a proof for another host': { proof: { htu: 'https://evil.example/x' } },
  'a proof for the address of the application': { proof: { htu: 'http://127.0.0.1/x' } },
  'a proof for another token': { proof: { ath: hash('sha256', 'other', 'base64url') } },
  'a proof that is too old': { proof: { iat: start - 600 } },
  'a proof from the future': { proof: { iat: start + 600 } },
  'two proofs': {
    credentials: (token, proof) => [
      ...[`Authorization: DPoP ${token}`, `DPoP: ${proof}`, `DPoP: ${proof}`],
    ],
    status: 400,
  },
  'two tokens': {
    credentials: (token, proof) => [
      ...[`Authorization: DPoP ${token}`, `Authorization: DPoP ${token}`, `DPoP: ${proof}`],
    ],
    status: 400,
  },
  'a token for another application': { token: { aud: 'https://other.example' } },
  'a token of another issuer': { token: { iss: 'https://evil.example' } },
  'an expired token': { token: { exp: start - 60 } },
  'a token with an unknown confirmation': { token: { cnf: { unknown: 'x' } } },
  'a token bound to a certificate without it': {
    token: { cnf: { 'x5t#S256': hash('sha256', 'x', 'base64url') } },
    credentials: (token) => [`Authorization: Bearer ${token}`],
  },
  'a token without the scope of the route': { target: '/admin', status: 403 },
}

for (const [title, { status = 401, ...row }] of Object.entries(unproven)) {
  test.serial(`refuses ${title}`, async (t) => {
    const result = await attack(row)
    t.is(result.status, status, result.answer.text)
    t.deepEqual(result.got, [])
  })
}

/** Passes, and the application sees nothing of what was forged. */
const stripped: Record<string, { readonly lines: readonly string[]; readonly forged?: string }> = {
  'a forged identity': { lines: ['Holdfast-Identity: forged'] },
  'a forged identity in capitals': { lines: ['HOLDFAST-IDENTITY: forged'] },
  'a forged identity with an underscore': { lines: ['holdfast_identity: forged'] },
  'a forged identity with a dot': { lines: ['holdfast.identity: forged'] },
  'a forged plain identity': { lines: ['X-Holdfast-Subject: forged'] },
  'a forged plain identity with underscores': { lines: ['X_Holdfast_Subject: forged'] },
  'an identity header of another proxy': {
    lines: ['Remote-User: forged', 'X-Remote-User: forged'],
  },
  'a header of oauth2-proxy': {
    lines: ['X-Auth-Request-User: forged', 'X-Forwarded-User: forged'],
  },
  'a forged signature': { lines: ['Signature: gate=:forged:', 'Signature-Input: gate=forged'] },
  'a forged digest': { lines: ['Content-Digest: sha-256=:forged:'] },
  'a forged client address': { lines: ['X-Forwarded-For: 203.0.113.66'], forged: '203.0.113.66' },
  'a forged Forwarded': { lines: ['Forwarded: for=forged;host=forged'] },
  'a forged real address': { lines: ['X-Real-IP: forged'] },
  'a forged host behind a proxy': { lines: ['X-Forwarded-Host: forged'] },
  'a forged scheme': { lines: ['X-Forwarded-Proto: forged'] },
  'another URL': { lines: ['X-Original-URL: /forged', 'X-Rewrite-URL: /forged'] },
  'another method': { lines: ['X-HTTP-Method-Override: forged', 'X-Method-Override: forged'] },
  'credentials for a proxy': { lines: ['Proxy-Authorization: Basic forged'] },
  'another upgrade': { lines: ['Upgrade: forged, h2c', 'HTTP2-Settings: forged'] },
  'an attempt to remove what the gate writes': {
    lines: ['Connection: holdfast-identity, signature, signature-input, content-digest, forged'],
  },
  'an encoding by another name': { lines: ['Transfer_Encoding: forged'] },
}

for (const [title, { lines, forged = 'forged' }] of Object.entries(stripped)) {
  test.serial(`strips ${title}`, async (t) => {
    const { status, got, answer } = await attack({ lines })
    t.is(status, 200, answer.text)
    t.is(got[0]?.code, undefined)
    t.is(got[0]?.assertion?.identity?.claims.sub, 'alice')
    t.false(got[0]?.rawHeaders.join('\n').includes(forged))
  })
}

test.serial('passes on an absolute target of its own host as a path', async (t) => {
  const { status, got } = await attack({ target: 'https://api.example/x?y', proven: '/x' })
  t.is(status, 200)
  t.is(got[0]?.url, '/x?y')
})

test.serial('sends chunks on without their extensions', async (t) => {
  const lines = ['Transfer-Encoding: chunked']
  const { status, got } = await attack({ ...post, lines, body: '2;a=b\r\nhi\r\n0;c\r\n\r\n' })
  t.is(status, 200)
  t.is(got[0]?.body.toString(), 'hi')
  t.true(got[0]?.assertion?.bodySigned)
})

test.serial('takes the body of a GET for a body', async (t) => {
  const lines = [`Content-Length: ${smuggled.length}`]
  const { status, got } = await attack({ lines, body: smuggled })
  t.is(status, 200)
  t.deepEqual(
    got.map(({ body }) => body.toString()),
    [smuggled],
  )
})

test.serial('refuses a proof that was used before', async (t) => {
  const token = accessToken()
  const proof = dpopProof(token, { htu: `${audience}/replayed` })
  const credentials = () => [`Authorization: DPoP ${token}`, `DPoP: ${proof}`]
  t.is((await attack({ target: '/replayed', credentials })).status, 200)
  t.is((await attack({ target: '/replayed', credentials })).status, 401)
  // Another spelling of the same URL is no other request.
  t.is((await attack({ target: '/replaye%64', credentials })).status, 401)
})

type Change = (request: GateRequest & { readonly headers: string[] }) => GateRequest

/** A request as the gate sends it, and the application's check of it after a change. */
interface Forgery {
  readonly code: VerifyErrorCode
  readonly sign?: Partial<GateSigning>
  readonly options?: Partial<GateVerifierOptions>
  /** Changes what was signed. */
  readonly change?: Change
}

const signedRequest = { method: 'POST', targetUri: `${audience}/pay?to=bob` }
const body = Buffer.from('{"amount":1}')

function gateRequest(signing: Partial<GateSigning> = {}) {
  const headers = ['Content-Type', 'application/json']
  const added = signGateRequest(
    { ...signedRequest, headers },
    {
      ...{ key: gateKey.key, keyId: gateKey.keyId, audience, now: start, lifetime: 10 },
      identity: { claims: { iss: 'https://as.example', sub: 'alice' }, methods: ['dpop'] },
      digest: hash('sha256', body, 'buffer'),
      ...signing,
    },
  )
  return { method: 'POST', url: '/pay?to=bob', headers: [...headers, ...added], body }
}

/** Another value for a field. */
const withField = (name: string, edit: (value: string) => string): Change => {
  return (request) => ({
    ...request,
    headers: request.headers.map((value, at) =>
      request.headers[at - 1]?.toLowerCase() === name && at % 2 === 1 ? edit(value) : value,
    ),
  })
}

const withMore = (...fields: string[]): Change => {
  return (request) => ({ ...request, headers: [...request.headers, ...fields] })
}

const withoutField = (name: string): Change => {
  return ({ headers, ...request }) => {
    const at = headers.findIndex((value) => value.toLowerCase() === name)
    return { ...request, headers: headers.toSpliced(at, 2) }
  }
}

const forgeries: Record<string, Forgery> = {
  'no assertion': { code: 'gate_missing', change: (request) => ({ ...request, headers: [] }) },
  'another method': { code: 'gate_signature', change: (each) => ({ ...each, method: 'PUT' }) },
  'another path': { code: 'gate_signature', change: (each) => ({ ...each, url: '/steal?to=bob' }) },
  'another query': { code: 'gate_signature', change: (each) => ({ ...each, url: '/pay?to=eve' }) },
  'a longer query': {
    code: 'gate_signature',
    change: (each) => ({ ...each, url: '/pay?to=bob&x' }),
  },
  'an absolute URL': {
    code: 'gate_malformed',
    change: (each) => ({ ...each, url: 'https://evil.example/pay?to=bob' }),
  },
  'another body': { code: 'gate_digest', change: (each) => ({ ...each, body: Buffer.from('{}') }) },
  'no body': { code: 'gate_digest', change: ({ body: _, ...each }) => each },
  'the digest of another body': {
    code: 'gate_signature',
    change: withField('content-digest', () => `sha-256=:${hash('sha256', '{}', 'base64')}:`),
  },
  'no digest': { code: 'gate_malformed', change: withoutField('content-digest') },
  'a body that was not hashed': { code: 'gate_digest', sign: { digest: undefined } },
  'another content type': {
    code: 'gate_signature',
    change: withField('content-type', () => 'text/html'),
  },
  'no content type': { code: 'gate_malformed', change: withoutField('content-type') },
  'an added content encoding': {
    code: 'gate_malformed',
    change: withMore('Content-Encoding', 'gzip'),
  },
  'a second identity': { code: 'gate_malformed', change: withMore('Holdfast-Identity', 'e30') },
  'another identity': {
    code: 'gate_signature',
    change: withField('holdfast-identity', () =>
      Buffer.from(JSON.stringify({ aud: audience, claims: { sub: 'eve' }, methods: [] })).toString(
        'base64url',
      ),
    ),
  },
  'no identity': { code: 'gate_malformed', change: withoutField('holdfast-identity') },
  'an assertion for another application': {
    code: 'gate_audience',
    sign: { audience: 'https://other.example' },
  },
  'an assertion of a public route': { code: 'gate_anonymous', sign: { identity: undefined } },
  'an assertion by another key': { code: 'gate_signature', sign: { key: thief.key } },
  'an assertion by an unknown key': {
    code: 'gate_key',
    sign: { key: thief.key, keyId: thief.keyId },
  },
  'an expired assertion': { code: 'gate_expired', sign: { now: start - 60 } },
  'an assertion from the future': { code: 'gate_expired', sign: { now: start + 60 } },
  'an assertion that was prolonged': {
    code: 'gate_signature',
    change: withField('signature-input', (text) =>
      text.replace(/;expires=\d+/, `;expires=${start + 30}`),
    ),
  },
  'an assertion for longer than 30 seconds': {
    code: 'gate_expired',
    change: withField('signature-input', (text) =>
      text.replace(/;expires=\d+/, `;expires=${start + 31}`),
    ),
  },
  'another nonce': {
    code: 'gate_signature',
    change: withField('signature-input', (text) => text.replace(/nonce="../, 'nonce="xx')),
  },
  'fewer components': {
    code: 'gate_malformed',
    change: withField('signature-input', (text) => text.replace(' "content-digest"', '')),
  },
  'components in another order': {
    code: 'gate_malformed',
    change: withField('signature-input', (text) =>
      text.replace('"@method" "@target-uri"', '"@target-uri" "@method"'),
    ),
  },
  'another algorithm': {
    code: 'gate_key',
    change: withField('signature-input', (text) =>
      text.replace('"ed25519"', '"ecdsa-p256-sha256"'),
    ),
  },
  'an algorithm with a shared secret': {
    code: 'gate_malformed',
    change: withField('signature-input', (text) => text.replace('"ed25519"', '"hmac-sha256"')),
  },
  'another label': {
    code: 'gate_malformed',
    change: withField('signature-input', (text) => text.replace('gate=', 'sig1=')),
  },
  'another tag': {
    code: 'gate_malformed',
    change: withField('signature-input', (text) => text.replace('holdfast-gate', 'other')),
  },
  'two signature inputs': {
    code: 'gate_malformed',
    change: withMore('Signature-Input', 'gate=();created=1'),
  },
  'two signatures': { code: 'gate_malformed', change: withMore('Signature', 'gate=:AAAA:') },
  'a signature in another spelling': {
    code: 'gate_malformed',
    change: withField('signature', (text) => text.replace('==:', ':')),
  },
  'an assertion for another origin': {
    code: 'gate_signature',
    options: { publicOrigin: 'https://other.example' },
  },
}

for (const [title, { code, sign, options, change }] of Object.entries(forgeries)) {
  test.serial(`the application refuses ${title}`, async (t) => {
    const request = gateRequest(sign)
    const error = await t.throwsAsync<VerifyError>(
      gateVerifierWith(options).verify(change?.(request) ?? request),
      { name: 'VerifyError' },
    )
    t.is(error.code, code)
  })
}

test.serial('the application refuses an assertion that was used before', async (t) => {
  const verifier = gateVerifierWith()
  const request = gateRequest()
  await verifier.verify(request)
  const error = await t.throwsAsync<VerifyError>(verifier.verify(request))
  t.is(error.code, 'gate_replayed')
})

test.serial(
  'the application is not changed by a refused request: its assertion is still good',
  async (t) => {
    const verifier = gateVerifierWith()
    const request = gateRequest()
    await t.throwsAsync(verifier.verify({ ...request, url: '/other' }))
    const { identity } = await verifier.verify(request)
    t.is(identity?.claims.sub, 'alice')
  },
)
