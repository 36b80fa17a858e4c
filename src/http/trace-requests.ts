import { context, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import type { Middleware } from 'koa'
import { methodOf, routeOf } from './request-route.ts'

/**
 * Makes a span of each request, as a part of the trace that its sender is in (W3C Trace Context).
 * Its names are those of OpenTelemetry's conventions for HTTP, without paths and queries: they
 * carry codes and identifiers.
 */
export function traceRequests(): Middleware {
  const tracer = trace.getTracer('holdfast')
  return (ctx, next) => {
    const parent = propagation.extract(context.active(), ctx.headers)
    const method = methodOf(ctx)
    return tracer.startActiveSpan(method, { kind: SpanKind.SERVER }, parent, async (span) => {
      try {
        await next()
      } finally {
        const route = routeOf(ctx)
        span.updateName(`${method} ${route}`)
        span.setAttributes({
          'http.request.method': method,
          'http.route': route,
          'http.response.status_code': ctx.status,
        })
        if (ctx.status >= 500) span.setStatus({ code: SpanStatusCode.ERROR })
        span.end()
      }
    })
  }
}
