import { SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import type { QueryResultRow } from 'pg'
import type { Database } from './database.ts'

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
