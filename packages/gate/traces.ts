/**
 * Traces by the API of OpenTelemetry, as the server makes them. Without its SDK, which is loaded where
 * the environment asks for it, nothing is recorded, and the trace of a request passes on as it came.
 */
import {
  context,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api'
import type { Application } from './application.ts'
import { valuesOf } from './headers.ts'

const tracer = trace.getTracer('holdfast-gate')

/** What a request says of the trace that it is a part of. */
export type TraceFields = Readonly<{ traceparent?: string; tracestate?: string }>

/** W3C Trace Context section 3.2, version 00: ids of zeros are not valid. */
const form = /^00-(?!0{32})[\da-f]{32}-(?!0{16})[\da-f]{16}-[\da-f]{2}$/

/** Of `tracestate`, so much must be passed on (section 3.3.1.5), and no more is. */
const mostState = 512

/** Reads the trace of a request. One that is malformed or there twice is dropped, with its state. */
export function traceFieldsOf(fields: readonly string[]): TraceFields {
  const [traceparent = '', ...more] = valuesOf(fields, 'traceparent')
  if (more.length > 0 || !form.test(traceparent)) return {}
  const tracestate = valuesOf(fields, 'tracestate').join(',')
  const isPlain = tracestate.length <= mostState && /^[ -~]+$/.test(tracestate)
  return isPlain ? { traceparent, tracestate } : { traceparent }
}

/** The name of a request in traces, and whether its route continues the client's. */
export function routeOf(
  { method, path }: Readonly<{ method: string; path: string }>,
  application: Application | undefined,
): Readonly<{ route: string; continues: boolean }> {
  try {
    const rule = application?.policy(method, path)
    return rule ? { route: rule.route, continues: rule.trace === 'continue' } : unknown
  } catch {
    // The request is refused, with its reason.
    return unknown
  }
}

const unknown = { route: '/', continues: false }

const methods = /^(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)$/

/** Makes the span of a request. Its names have no paths and queries: they carry codes and identifiers. */
export function traceRequest<T>(
  { method, route, from }: Readonly<{ method: string; route: string; from: TraceFields }>,
  act: () => Promise<T>,
  statusOf: (error?: unknown) => number,
): Promise<T> {
  const parent = propagation.extract(context.active(), from)
  const known = methods.test(method) ? method : '_OTHER'
  const attributes = { 'http.request.method': known, 'http.route': route }
  const options = { kind: SpanKind.SERVER, attributes }
  return tracer.startActiveSpan(`${known} ${route}`, options, parent, async (span) => {
    let status = 500
    try {
      const result = await act()
      status = statusOf()
      return result
    } catch (error) {
      status = statusOf(error)
      throw error
    } finally {
      span.setAttribute('http.response.status_code', status)
      if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR })
      span.end()
    }
  })
}

/** Makes a span of one step of a request: `check`, `upstream`, `sign-in` or `refresh`. */
export function traced<T>(
  step: 'check' | 'upstream' | 'sign-in' | 'refresh',
  act: (span: Span) => Promise<T>,
): Promise<T> {
  const kind = step === 'check' ? SpanKind.INTERNAL : SpanKind.CLIENT
  return tracer.startActiveSpan(step, { kind }, async (span) => {
    try {
      return await act(span)
    } catch (error) {
      // No message: it may name what the client has sent.
      span.setStatus({ code: SpanStatusCode.ERROR })
      throw error
    } finally {
      span.end()
    }
  })
}

/** The trace for the application: of the span that is active, or as the request had it. */
export function outgoingTrace(from: TraceFields): string[] {
  const carrier: Record<string, string> = {}
  propagation.inject(context.active(), carrier)
  const { traceparent, tracestate } = carrier.traceparent === undefined ? from : carrier
  return [
    ...(traceparent === undefined ? [] : ['traceparent', traceparent]),
    ...(tracestate === undefined ? [] : ['tracestate', tracestate]),
  ]
}

/** Whether the standard variables ask for traces. */
export function asksForTraces(env: Readonly<Record<string, string | undefined>>): boolean {
  if (env.OTEL_SDK_DISABLED?.toLowerCase() === 'true') return false
  const { OTEL_TRACES_EXPORTER: exporter } = env
  if (exporter) return exporter !== 'none'
  return Boolean(env.OTEL_EXPORTER_OTLP_ENDPOINT || env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
}

/**
 * Starts the official SDK, which reads the standard variables (`OTEL_*`) itself.
 *
 * @throws where it is not installed.
 */
export async function startTracing(): Promise<AsyncDisposable> {
  const { NodeSDK } = await import('@opentelemetry/sdk-node').catch((cause) => {
    throw new Error('OTEL_… asks for traces: npm install @opentelemetry/sdk-node', { cause })
  })
  const sdk = new NodeSDK({
    serviceName: 'holdfast-gate',
    instrumentations: [],
    metricReaders: [],
    logRecordProcessors: [],
  })
  sdk.start()
  return { [Symbol.asyncDispose]: () => sdk.shutdown() }
}
