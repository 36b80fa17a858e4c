import type { Context, Middleware } from 'koa'
import {
  type ErrorWords,
  NOT_FOUND,
  pageErrorWords,
  SERVER_ERROR,
  UNAVAILABLE,
} from '../pages/error-messages.ts'
import { PageError } from '../pages/page-error.ts'
import { DatabaseUnavailableError } from '../storage/database-unavailable.ts'

export interface ErrorPagesOptions {
  render: (page: ErrorWords & { requestId: string }) => string
}

/** Answers what nobody else did, and what was thrown: the one place where errors become pages. */
export function errorPages({ render }: ErrorPagesOptions): Middleware {
  function answer(ctx: Context, status: number, words: ErrorWords) {
    ctx.status = status
    if (ctx.accepts('json', 'html') === 'html') {
      ctx.type = 'html'
      ctx.body = render({ ...words, requestId: ctx.state.requestId })
    } else {
      ctx.body = { error: words.code, error_description: words.sentence }
    }
  }

  return async (ctx, next) => {
    try {
      await next()
      if (ctx.status === 404 && ctx.body == null) answer(ctx, 404, NOT_FOUND)
    } catch (error) {
      if (error instanceof PageError) {
        answer(ctx, error.status, pageErrorWords(error.code))
      } else {
        ctx.app.emit('error', error, ctx)
        if (error instanceof DatabaseUnavailableError) answer(ctx, error.status, UNAVAILABLE)
        else answer(ctx, 500, SERVER_ERROR)
      }
    }
  }
}
