// Envoy's ext_authz by gRPC, without Envoy.

import { hash, X509Certificate } from 'node:crypto'
import { connect, constants } from 'node:http2'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { Code, ConnectError, createClient } from '@connectrpc/connect'
import { createGrpcTransport } from '@connectrpc/connect-node'
import test from 'ava'
import { checkResponse, readCheck } from '../../packages/gate/envoy/ext-authz.ts'
import {
  Authorization,
  CheckRequestSchema,
  type CheckResponse,
} from '../../packages/gate/envoy/external_auth_pb.ts'
import { createAuthority } from '../support/certificates.ts'
import { gateVerifierWith, startGate, type TestGate } from '../support/gate.ts'
import { accessToken, audience, dpopProof } from '../support/verify/fixtures.ts'

const application = {
  origin: audience,
  upstream: { url: 'http://127.0.0.1:1' },
  routes: [{ path: '/admin', scopes: ['admin'] }],
}
const settings = {
  trustedProxies: ['127.0.0.1'],
  forwardAuth: { proxy: 'envoy-grpc', port: 0 },
  forwarded: { certificate: 'envoy' },
  applications: [application],
}

let gate: TestGate
test.before(async () => {
  gate = await startGate(settings)
})
test.after.always(() => gate[Symbol.asyncDispose]())

type Http = MessageInitShape<typeof CheckRequestSchema>

interface Change {
  readonly method?: string
  readonly path?: string
  readonly host?: string
  readonly fields?: readonly (readonly [string, string])[]
  readonly headers?: Record<string, string>
  readonly certificate?: string
}

function checkOf({
  method = 'GET',
  path = '/notes?limit=3',
  host = 'api.example',
  ...more
}: Change) {
  const { fields = [], headers, certificate = '' } = more
  const raw = fields.map(([key, value]) => ({ key, rawValue: Buffer.from(value, 'latin1') }))
  const http = { method, path, host, ...(headers ? { headers } : { headerMap: { headers: raw } }) }
  return { attributes: { source: { certificate }, request: { http } } } satisfies Http
}

function credentials(proof: Record<string, unknown> = {}) {
  const token = accessToken()
  return [
    ['authorization', `DPoP ${token}`],
    ['dpop', dpopProof(token, proof)],
  ] as const
}

async function ask(change: Change, { port = gate.forwardAuthPort } = {}): Promise<CheckResponse> {
  const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` })
  return createClient(Authorization, transport).check(checkOf(change))
}

function deniedOf({ httpResponse, status }: CheckResponse) {
  if (httpResponse.case !== 'deniedResponse') throw new TypeError('it was not denied')
  const { value } = httpResponse
  const fields = value.headers.map(({ header }) => [header?.key, header?.value])
  return { grpc: status?.code, status: value.status?.code, fields, json: JSON.parse(value.body) }
}

function okOf({ httpResponse, status }: CheckResponse) {
  if (httpResponse.case !== 'okResponse' || status?.code !== 0) throw new TypeError('it was denied')
  const { headers, headersToRemove } = httpResponse.value
  const fields = headers.flatMap(({ header }) => [header?.key ?? '', header?.value ?? ''])
  return { fields, removed: headersToRemove, headers }
}

test('answers a check with an assertion, and names what the application must not get', async (t) => {
  const fields = [
    ...credentials(),
    ...([
      [':path', '/notes?limit=3'],
      ['accept', 'text/plain'],
      ['x-forwarded-user', 'forged'],
      ['remote-user', 'forged'],
      ['x-forwarded-for', '192.0.2.1'],
      ['x-request-id', '1'],
    ] as const),
  ]
  const { fields: set, removed, headers } = okOf(await ask({ fields }))
  const { identity } = await gateVerifierWith().verify({
    ...{ method: 'GET', url: '/notes?limit=3', headers: set },
  })
  t.is(identity?.claims.sub, 'alice')
  t.true(headers.every(({ appendAction }) => appendAction === 2))
  t.deepEqual(removed.sort(), ['authorization', 'dpop', 'remote-user', 'x-forwarded-user'])
})

test('uses a proof up', async (t) => {
  const fields = credentials()
  okOf(await ask({ fields }))
  const denied = deniedOf(await ask({ fields }))
  t.is(denied.status, 401)
  t.is(denied.grpc, 7)
  t.true(denied.fields.some(([name]) => name === 'www-authenticate'))
})

test('leaves the credentials to an application that verifies by itself', async (t) => {
  const applications = [{ ...application, mode: 'pass' }]
  await using passing = await startGate({ ...settings, applications })
  const fields = [...credentials(), ['x-real-ip', 'forged']] as const
  const answer = await ask({ fields }, { port: passing.forwardAuthPort })
  const { fields: set, removed } = okOf(answer)
  t.deepEqual(set, [])
  t.deepEqual(removed, ['x-real-ip'])
})

test('applies the rule of the path', async (t) => {
  const fields = credentials({ htu: `${audience}/admin` })
  t.is(deniedOf(await ask({ path: '/admin', fields })).status, 403)
})

test('takes the certificate of the connection from Envoy alone', async (t) => {
  const { cert } = await (await createAuthority()).issue()
  const encoded = encodeURIComponent(cert)
  const thumbprint = hash('sha256', new X509Certificate(cert).raw, 'base64url')
  const token = accessToken({ cnf: { 'x5t#S256': thumbprint } })
  const bearer = ['authorization', `Bearer ${token}`] as const
  okOf(await ask({ fields: [bearer], certificate: encoded }))
  const forged = ['x-forwarded-client-cert', `Cert="${encoded}"`] as const
  t.is(deniedOf(await ask({ fields: [bearer, forged] })).status, 401)
})

const malformed: Record<string, Change> = {
  'fields that were joined': { headers: { authorization: 'DPoP a' } },
  'another path among the fields': { fields: [[':path', '/public']] },
  'another host among the fields': { fields: [[':authority', 'evil.example']] },
  'a line break in a field': { fields: [['x-a', '1\r\nholdfast-identity: forged']] },
  'a name that is no name': { fields: [['x a', '1']] },
  'a name in capitals': { fields: [['DPoP', '1']] },
  'a certificate that ends its field': { certificate: 'x";Chain="y' },
}

for (const [title, change] of Object.entries(malformed)) {
  test(`refuses a check with ${title}`, async (t) => {
    const { status, json } = deniedOf(await ask(change))
    t.is(status, 400)
    t.is(json.error, 'asked')
  })
}

test('refuses a field that is there twice', async (t) => {
  const [authorization, proof] = credentials()
  const { status, json } = deniedOf(await ask({ fields: [authorization, authorization, proof] }))
  t.is(status, 400)
  t.is(json.error, 'repeated_field')
})

test('refuses a check without a request', (t) => {
  const socket = {} as Parameters<typeof readCheck>[1]
  const empty = create(CheckRequestSchema, {})
  t.throws(() => readCheck(empty, socket), { message: /proxy must name/ })
})

test('reads no message beyond the limit', async (t) => {
  const fields = [['x-a', 'a'.repeat(200_000)]] as const
  const error = await t.throwsAsync(ask({ fields }), { instanceOf: ConnectError })
  t.is(error?.code, Code.ResourceExhausted)
})

test('refuses bytes that are no check', async (t) => {
  const { status, grpcStatus } = await post(
    gate.forwardAuthPort,
    Buffer.from('\0\0\0\0\x03\xff\xff\xff', 'latin1'),
  )
  t.is(status, 200)
  t.is(grpcStatus, String(Code.Internal))
})

test('answers trusted proxies only, before it reads what they ask', async (t) => {
  await using strict = await startGate({ ...settings, trustedProxies: ['192.0.2.1'] })
  const { status, text } = await post(strict.forwardAuthPort, Buffer.from('no message'))
  t.is(status, 403)
  t.is(JSON.parse(text).error, 'peer')
})

test('leaves other statuses than 200 to the client', (t) => {
  const answer = { status: 303, fields: ['Location', '/.gate/sign-in'], body: '' }
  const { httpResponse } = checkResponse({ kind: 'answer', answer }, [])
  t.like(httpResponse, { case: 'deniedResponse', value: { status: { code: 303 } } })
})

/** Sends bytes as the body of a call. */
async function post(port: number, bytes: Buffer) {
  const session = connect(`http://127.0.0.1:${port}`)
  const stream = session.request({
    [constants.HTTP2_HEADER_METHOD]: 'POST',
    [constants.HTTP2_HEADER_PATH]: '/envoy.service.auth.v3.Authorization/Check',
    'content-type': 'application/grpc',
    te: 'trailers',
  })
  let status: number | undefined
  let grpcStatus: string | undefined
  const note = (headers: Record<string, unknown>) => {
    status ??= headers[':status'] as number | undefined
    if (headers['grpc-status'] !== undefined) grpcStatus = String(headers['grpc-status'])
  }
  stream.on('response', note).on('trailers', note).end(bytes)
  let text = ''
  for await (const chunk of stream) text += chunk
  session.close()
  return { status, grpcStatus, text }
}
