import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import test from 'ava'
import { asksForTraces } from '../../src/config/traces.ts'
import { basic, newKey, post } from '../support/flow.ts'
import { startTestServer } from '../support/server.ts'

interface Span {
  readonly name: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
}

interface Export {
  readonly resourceSpans: readonly { scopeSpans: readonly { spans: readonly Span[] }[] }[]
}

test('a token request is one trace, its statements below it, without what they carry', async (t) => {
  const spans: Span[] = []
  const collector = createServer(async (request, response) => {
    const { resourceSpans } = (await json(request)) as Export
    spans.push(...resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((it) => it.spans)))
    response.setHeader('content-type', 'application/json').end('{}')
  })
  collector.listen(0, '127.0.0.1')
  await once(collector, 'listening')
  t.teardown(() => collector.close())
  const standard = {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(collector.address() as AddressInfo).port}`,
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
  }
  Object.assign(process.env, standard)

  const server = await startTestServer(standard)
  const client = await server.addClient({
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    token_endpoint_auth_method: 'client_secret_basic',
  })
  const traceId = '0af7651916cd43dd8448eb211c80319c'
  const { status } = await post(
    server,
    '/token',
    { grant_type: 'client_credentials' },
    {
      key: await newKey(),
      headers: { ...basic(client), traceparent: `00-${traceId}-b7ad6b7169203331-01` },
    },
  )
  t.is(status, 200)
  await server[Symbol.asyncDispose]()

  const request = spans.find(({ name }) => name === 'POST token')
  t.is(request?.traceId, traceId)
  t.is(request?.parentSpanId, 'b7ad6b7169203331')
  const statements = spans.filter(({ parentSpanId }) => parentSpanId === request?.spanId)
  t.true(statements.some(({ name }) => name === 'artifact-close'))
  t.notRegex(
    JSON.stringify(spans),
    new RegExp(`${client.client_id}|${client.client_secret}|127\\.0`),
  )
})

for (const [title, env, asked] of [
  ['nothing', {}, false],
  ['an endpoint', { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' }, true],
  ['an exporter', { OTEL_TRACES_EXPORTER: 'console' }, true],
  ['no exporter', { OTEL_TRACES_EXPORTER: 'none', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://x' }, false],
  ['a disabled SDK', { OTEL_SDK_DISABLED: 'true', OTEL_TRACES_EXPORTER: 'otlp' }, false],
] as const) {
  test(`${title} ${asked ? 'asks' : 'does not ask'} for traces`, (t) => {
    t.is(asksForTraces(env), asked)
  })
}
