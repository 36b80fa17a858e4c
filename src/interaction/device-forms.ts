import type { Middleware } from 'koa'
import { sameOrigin } from '../http/same-origin.ts'
import { suggestUserCode } from './device-pages.ts'

/** The form for user codes, below the path of this server. */
export const devicePath = '/device'

/**
 * In front of the engine's form for user codes. A code in the address fills the form in and does not
 * send it: the engine would, by a script, and whoever followed a link would have typed nothing.
 */
export function deviceForms({ publicOrigin }: { publicOrigin: string }): Middleware {
  const ownForm = sameOrigin({ publicOrigin })
  return (ctx, next) => {
    if (ctx.path !== devicePath) return next()
    if (ctx.method === 'POST') return ownForm(ctx, next)
    const { user_code: userCode, ...rest } = ctx.query
    if (typeof userCode === 'string') suggestUserCode(ctx, userCode.slice(0, longestCode))
    ctx.query = rest
    return next()
  }
}

/** Of a code in a link, for the form to show. */
const longestCode = 20
