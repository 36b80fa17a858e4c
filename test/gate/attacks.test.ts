// What an attacker sends to a gate, byte for byte, and to the application behind it.
import { hash } from 'node:crypto'
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
import { type Attack, attackOn, attacksOn, post } from '../support/gate-attacks.ts'
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

/** Sends a request that is valid but for the attack. */
async function attack(row: Attack) {
  const before = application.received.length
  const { answer } = await attackOn({ audience, origin: gate.origin }, row)
  return { status: answer.status, answer, got: application.received.slice(before) }
}

const { refused, unproven, stripped, smuggled } = attacksOn('api.example')

for (const [title, { status = 400, ...row }] of Object.entries(refused)) {
  test.serial(`refuses ${title}`, async (t) => {
    const result = await attack(row)
    t.is(result.status, status, result.answer.text)
    t.deepEqual(result.got, [])
  })
}

for (const [title, { status = 401, ...row }] of Object.entries(unproven)) {
  test.serial(`refuses ${title}`, async (t) => {
    const result = await attack(row)
    t.is(result.status, status, result.answer.text)
    t.deepEqual(result.got, [])
  })
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
