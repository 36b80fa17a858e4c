import type { Context, Middleware } from 'koa'
import {
  type ErrorMessage,
  notFound,
  pageErrorMessage,
  serverError,
  unavailable,
} from '../pages/error-messages.ts'
import { english } from '../pages/messages.ts'
import { PageError } from '../pages/page-error.ts'
import { DatabaseUnavailableError } from '../storage/database-unavailable.ts'
import { letScriptsRead } from './cross-origin.ts'

export interface ErrorPagesOptions {
  render: (page: ErrorMessage & { requestId: string }) => string
}

/** Answers what nobody else did, and what was thrown: the one place where errors become pages. */
export function errorPages({ render }: ErrorPagesOptions): Middleware {
  function answer(ctx: Context, status: number, message: ErrorMessage) {
    ctx.status = status
    if (ctx.accepts('json', 'html') === 'html') {
      ctx.type = 'html'
      ctx.body = render({ ...message, requestId: ctx.state.requestId })
    } else {
      ctx.body = { error: message.code, error_description: english.text(message.sentence) }
    }
  }

  return async (ctx, next) => {
    try {
      await next()
      if (ctx.status === 404 && ctx.body == null) answer(ctx, 404, notFound)
    } catch (error) {
      letScriptsRead(ctx)
      if (error instanceof PageError) {
        answer(ctx, error.status, pageErrorMessage(error.code))
      } else {
        ctx.app.emit('error', error, ctx)
        if (error instanceof DatabaseUnavailableError) answer(ctx, error.status, unavailable)
        else answer(ctx, 500, serverError)
      }
    }
  }
}
