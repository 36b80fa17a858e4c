import { headerValues } from '@holdfast/verify/authorization-server'
import type { Middleware } from 'koa'
import { PageError } from '../pages/page-error.ts'

const single = ['authorization', 'content-type', 'host']

/**
 * Refuses a header twice that may be there once (RFC 9110 section 5.3). Node would keep the first
 * in silence, where a proxy before it may have looked at the last.
 */
export function singleHeaders(): Middleware {
  return (ctx, next) => {
    const { rawHeaders } = ctx.req
    const repeated = single.find((name) => headerValues(rawHeaders, name).length > 1)
    if (repeated) throw new PageError('invalid_request', `Expected one ${repeated} header`)
    return next()
  }
}
