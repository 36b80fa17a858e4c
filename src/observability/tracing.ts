import { SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import type { QueryResultRow } from 'pg'
import type { Database } from '../storage/database.ts'

/**
 * Starts the official SDK, which reads the standard variables (`OTEL_*`) itself. It is loaded only
 * here, by those who ask for it: it is larger than everything else together.
 */
export async function startTracing(): Promise<AsyncDisposable> {
  const { NodeSDK } = await import('@opentelemetry/sdk-node')
  // Metrics and logs have ways of their own out of this process.
  const sdk = new NodeSDK({
    serviceName: 'holdfast',
    instrumentations: [],
    metricReaders: [],
    logRecordProcessors: [],
  })
  sdk.start()
  return { [Symbol.asyncDispose]: () => sdk.shutdown() }
}

type Environment = Readonly<Record<string, string | undefined>>

/** Whether the standard variables ask for traces. */
export function asksForTraces(env: Environment): boolean {
  if (env.OTEL_SDK_DISABLED?.toLowerCase() === 'true') return false
  const { OTEL_TRACES_EXPORTER: exporter } = env
  if (exporter) return exporter !== 'none'
  return Boolean(env.OTEL_EXPORTER_OTLP_ENDPOINT || env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
}

/** Makes a span of each statement, by its name: never with its values. */
export function traceQueries(database: Database): Database {
  const tracer = trace.getTracer('holdfast')
  return {
    ...database,
    query<Row extends QueryResultRow>(statement: Statement) {
      const name = statement.name ?? 'statement'
      const attributes = { 'db.system.name': 'postgresql', 'db.query.summary': name }
      return tracer.startActiveSpan(name, { kind: SpanKind.CLIENT, attributes }, async (span) => {
        try {
          return await database.query<Row>(statement)
        } catch (error) {
          span.setStatus({ code: SpanStatusCode.ERROR })
          throw error
        } finally {
          span.end()
        }
      })
    },
  }
}

type Statement = Parameters<Database['query']>[0]
