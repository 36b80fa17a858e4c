/**
 * What one network may ask for: requests at some routes, requests that are refused, and requests
 * that are refused before they reach a route. Beyond the limit it is 429, and nothing is written
 * but a count.
 */
import type { Context, Middleware } from 'koa'
import type { NetworkLimit } from '../limits/network-limit.ts'
import { PageError, type PageErrorCode } from '../pages/page-error.ts'
import type { RouteName } from './routes.ts'

/** Routes whose requests carry credentials or names that could be guessed. */
export const guardedRoutes = [
  'account_link',
  'account_link_password',
  'account_link_passkey',
  'client_logo',
  'token',
  'par',
  'introspect',
  'revoke',
  'backchannel_authentication',
  'device_authorization',
  'register',
  'registration_read',
  'registration_update',
  'registration_remove',
] as const satisfies readonly RouteName[]

export interface NetworkLimitOptions {
  readonly limit: NetworkLimit
  readonly onLimited: (ctx: Context) => void
}

/** Ends a request in 429 with the time to wait. */
function refuse(ctx: Context, seconds: number, onLimited: NetworkLimitOptions['onLimited']): never {
  onLimited(ctx)
  ctx.set({ 'retry-after': String(seconds), 'cache-control': 'no-store' })
  throw new PageError('too_many_requests', 'Expected fewer requests of this network')
}

/**
 * Limits the requests of a network, whatever they are answered.
 *
 * @param isKnown whether a request has a budget of its own, and takes from it: the others in its
 * network do not use it up.
 */
export function limitRequests({
  limit,
  onLimited,
  isKnown = () => false,
}: NetworkLimitOptions & { isKnown?: (ctx: Context) => boolean }): Middleware {
  return async (ctx, next) => {
    const seconds = isKnown(ctx) ? undefined : await limit.take(ctx.state.address)
    if (seconds !== undefined) refuse(ctx, seconds, onLimited)
    await next()
  }
}

/**
 * Slows down a network that has many requests refused. Only refusals are counted: a client that
 * makes no mistakes pays nothing for this.
 */
export function limitRefusals({ limit, onLimited }: NetworkLimitOptions): Middleware {
  return async (ctx, next) => {
    const seconds = limit.wait(ctx.state.address)
    if (seconds !== undefined) refuse(ctx, seconds, onLimited)
    await next()
    if (isRefused(ctx.status, ctx.body)) await limit.take(ctx.state.address)
  }
}

/**
 * Asking for a nonce (RFC 9449 section 8) is how every client begins, and waiting for the user (RFC
 * 8628 section 3.5) is all that most requests of a device bring. One that asks too often is refused.
 */
const notRefusals: ReadonlySet<unknown> = new Set(['use_dpop_nonce', 'authorization_pending'])

function isRefused(status: number, body: unknown): boolean {
  const { error } = (body ?? {}) as { error?: unknown }
  return status >= 400 && status < 500 && !notRefusals.has(error)
}

/** What the edge says of requests that are malformed or forged. */
const edgeErrors: ReadonlySet<PageErrorCode> = new Set([
  'client_certificate_too_large',
  'invalid_client_certificate_header',
  'invalid_request',
  'invalid_token_binding',
  'malformed_target',
  'origin_too_long',
] satisfies PageErrorCode[])

/**
 * Limits what the edge refuses. The limit concerns such requests only: those that someone forges
 * keep nobody out who is behind the same address.
 */
export function limitEdgeRefusals({ limit, onLimited }: NetworkLimitOptions): Middleware {
  return async (ctx, next) => {
    try {
      await next()
    } catch (error) {
      if (!(error instanceof PageError && edgeErrors.has(error.code))) throw error
      const seconds = await limit.take(ctx.state.address)
      if (seconds !== undefined) refuse(ctx, seconds, onLimited)
      throw error
    }
  }
}
