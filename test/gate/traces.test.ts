// Traces of requests, as they reach the application and an exporter.
import { hash } from 'node:crypto'
import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { context, propagation, trace } from '@opentelemetry/api'
import { NodeSDK, type NodeSDKConfiguration } from '@opentelemetry/sdk-node'
import test from 'ava'
import { asksForTraces, traceFieldsOf } from '../../packages/gate/traces.ts'
import {
  startApplication,
  startGate,
  type TestApplication,
  type TestGate,
} from '../support/gate.ts'
import { audience } from '../support/verify/fixtures.ts'

let application: TestApplication
let gate: TestGate
const opened = new AsyncDisposableStack()

test.before(async () => {
  application = opened.use(await startApplication())
  const routes = [
    { path: '/public', access: 'public' },
    { path: '/fresh', access: 'public', trace: 'restart' },
  ]
  gate = opened.use(
    await startGate({
      applications: [{ origin: audience, upstream: { url: application.url }, routes }],
    }),
  )
})
test.after.always(() => opened.disposeAsync())

const traceId = hash('sha256', 'trace').slice(0, 32)
const spanId = hash('sha256', 'span').slice(0, 16)
const sampled = `00-${traceId}-${spanId}-01`

/** What the application gets of a request's trace. */
async function received(path: string, fields: readonly string[]) {
  const headers = ['Host', 'api.example', ...fields]
  const sent = httpRequest({ port: gate.port, host: '127.0.0.1', path, headers, agent: false })
  sent.end()
  const [answer] = (await once(sent, 'response')) as [IncomingMessage]
  answer.resume()
  await once(answer, 'end')
  const { rawHeaders = [] } = application.received.findLast(({ url }) => url === path) ?? {}
  const valuesOf = (name: string) =>
    rawHeaders.filter((_, at) => rawHeaders[at - 1]?.toLowerCase() === name && at % 2 === 1)
  return {
    status: answer.statusCode,
    traceparent: valuesOf('traceparent'),
    tracestate: valuesOf('tracestate'),
    requestId: valuesOf('x-request-id'),
  }
}

test.serial('passes the trace of a request on as it came, without an SDK', async (t) => {
  const got = await received('/public/a', ['traceparent', sampled, 'tracestate', 'a=1,b=2'])
  t.like(got, { traceparent: [sampled], tracestate: ['a=1,b=2'] })
})

test.serial('names each request for the application, whatever the client calls it', async (t) => {
  const first = await received('/public/b', ['X-Request-Id', 'forged'])
  const second = await received('/public/c', [])
  t.regex(`${first.requestId}`, /^[\da-f]{8}-[\da-f-]{27}$/)
  t.notDeepEqual(first.requestId, second.requestId)
})

test.serial('passes on no trace of a client where the route starts one', async (t) => {
  const got = await received('/fresh', ['traceparent', sampled, 'tracestate', 'a=1'])
  t.like(got, { status: 200, traceparent: [], tracestate: [] })
})

const hostile: Readonly<Record<string, readonly string[]>> = {
  'zeros for a trace': ['traceparent', `00-${'0'.repeat(32)}-${spanId}-01`],
  'zeros for a span': ['traceparent', `00-${traceId}-${'0'.repeat(16)}-01`],
  'the version ff': ['traceparent', `ff-${traceId}-${spanId}-01`],
  'a version of the future': ['traceparent', `cc-${traceId}-${spanId}-01-what`],
  'upper case': ['traceparent', sampled.toUpperCase()],
  'more at its end': ['traceparent', `${sampled}-x`],
  'a short id': ['traceparent', `00-${traceId.slice(1)}-${spanId}-01`],
  'a megabyte of nothing': ['traceparent', '0'.repeat(8000)],
  'two of them': ['traceparent', sampled, 'traceparent', sampled],
  'two in one': ['traceparent', `${sampled}, ${sampled}`],
  'a script': ['traceparent', '<script>alert(1)</script>'],
}
for (const [title, fields] of Object.entries(hostile)) {
  test.serial(`passes on no trace with ${title}, nor its state`, async (t) => {
    const got = await received('/public/hostile', [...fields, 'tracestate', 'a=1'])
    t.like(got, { status: 200, traceparent: [], tracestate: [] })
  })
}

test('passes on no state that is too long or has control characters', (t) => {
  const of = (state: string) => traceFieldsOf(['traceparent', sampled, 'tracestate', state])
  t.deepEqual(of(`a=${'b'.repeat(511)}`), { traceparent: sampled })
  t.deepEqual(of('a=\u0001'), { traceparent: sampled })
  t.deepEqual(of('a=1'), { traceparent: sampled, tracestate: 'a=1' })
})

test('asks the environment whether there are traces', (t) => {
  t.false(asksForTraces({}))
  t.true(asksForTraces({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' }))
  t.false(asksForTraces({ OTEL_TRACES_EXPORTER: 'none' }))
  t.false(asksForTraces({ OTEL_TRACES_EXPORTER: 'otlp', OTEL_SDK_DISABLED: 'true' }))
})

test.serial('makes spans of a request and of what the gate asks the application', async (t) => {
  type Processor = NonNullable<NodeSDKConfiguration['spanProcessors']>[number]
  const spans: Parameters<Processor['onEnd']>[0][] = []
  const processor: Processor = {
    onStart() {},
    onEnd: (span) => void spans.push(span),
    forceFlush: async () => {},
    shutdown: async () => {},
  }
  const sdk = new NodeSDK({
    spanProcessors: [processor],
    ...{ instrumentations: [], metricReaders: [], logRecordProcessors: [] },
  })
  sdk.start()
  try {
    const got = await received('/public/secret?code=1', ['traceparent', sampled])
    t.is(got.status, 200)
    await received('/private', [])
    const named = (name: string) => spans.filter((each) => each.name === name)
    const [request] = named('GET /public')
    t.is(request?.spanContext().traceId, traceId)
    t.is(request?.parentSpanContext?.spanId, spanId)
    t.like(request?.attributes, { 'http.route': '/public', 'http.response.status_code': 200 })
    const [upstream] = named('upstream')
    t.is(upstream?.parentSpanContext?.spanId, request?.spanContext().spanId)
    // A new span of the same trace, for the application.
    t.deepEqual(got.traceparent, [`00-${traceId}-${upstream?.spanContext().spanId}-01`])
    t.is(named('check')[0]?.parentSpanContext?.spanId, request?.spanContext().spanId)
    const [refused] = named('GET /')
    t.is(refused?.attributes['http.response.status_code'], 401)
    t.not(refused?.spanContext().traceId, traceId)
    t.false(
      JSON.stringify(spans.map(({ name, attributes }) => [name, attributes])).includes('secret'),
    )
    const fresh = await received('/fresh', ['traceparent', sampled])
    t.is(fresh.traceparent.length, 1)
    t.false(`${fresh.traceparent}`.includes(traceId))
  } finally {
    await sdk.shutdown()
    for (const api of [trace, propagation, context]) api.disable()
  }
})
