import { randomUUID as nodeRandomUUID } from 'node:crypto'
import type { Middleware } from 'koa'

/** Names each request, so that a person reading an error page and the log speak of the same one. */
export function requestId({
  randomUUID = nodeRandomUUID,
}: {
  randomUUID?: () => string
} = {}): Middleware {
  return (ctx, next) => {
    ctx.state.requestId ??= randomUUID()
    ctx.set('x-request-id', ctx.state.requestId)
    return next()
  }
}
