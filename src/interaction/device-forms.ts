import type { Middleware } from 'koa'
import { suggestUserCode } from '../engine/device-pages.ts'

/**
 * In front of the engine's form for user codes. A code in the address fills the form in and does not
 * send it: the engine would, by a script, and a user who followed a link would have typed nothing.
 */
export function suggestedCodes(): Middleware {
  return (ctx, next) => {
    const { user_code: userCode, ...rest } = ctx.query
    if (typeof userCode === 'string') suggestUserCode(ctx, userCode.slice(0, longestCode))
    ctx.query = rest
    return next()
  }
}

/** Of a code in a link, for the form to show. */
const longestCode = 20
