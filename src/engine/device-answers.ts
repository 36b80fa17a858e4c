import type { Context, Middleware } from 'koa'
import { pollInterval } from './device-grant.ts'

/**
 * RFC 8628 section 3.2, where the engine leaves the interval out, and makes addresses of the origin
 * that the device has come to: that may be the one for certificates, which has no pages.
 */
export function completeDeviceAnswers({
  verificationUri,
}: {
  verificationUri: string
}): Middleware {
  return async (ctx: Context, next) => {
    await next()
    const body = ctx.body as { user_code?: string } | undefined
    if (!body?.user_code) return
    const query = new URLSearchParams({ user_code: body.user_code })
    ctx.body = {
      ...body,
      verification_uri: verificationUri,
      verification_uri_complete: `${verificationUri}?${query}`,
      interval: pollInterval,
    }
  }
}
