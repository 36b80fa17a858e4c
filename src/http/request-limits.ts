import type { Context, Middleware } from 'koa'
import type { Config } from '../config/config.ts'
import { createNetworkLimit } from '../limits/network-limit.ts'
import type { Siblings } from '../limits/siblings.ts'
import type { Events, LimitName } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { Limiter, MakeLimiter } from '../storage/limiter.ts'
import { limitEdgeRefusals, limitRefusals, limitRequests } from './network-limit.ts'

export interface RequestLimitsOptions {
  readonly operations: Config['operations']
  readonly events: Pick<Events, 'rateLimited'>
  readonly makeLimiter: MakeLimiter
  /** The other processes of this node. */
  readonly siblings?: Siblings | undefined
  /** Whether a request comes from a browser that is counted by itself. */
  readonly isKnown: (ctx: Context) => boolean
}

export interface RequestLimits {
  readonly authorize: Middleware
  readonly deviceCodes: Middleware | undefined
  readonly devicePages: Middleware | undefined
  readonly edgeRefusals: Middleware
  readonly par: Middleware
  readonly refusals: Middleware
}

/** The limits on what each network may ask for in a minute. */
export function createRequestLimits({
  operations,
  events,
  makeLimiter,
  siblings,
  isKnown,
}: RequestLimitsOptions): RequestLimits {
  const perNetwork = (
    name: LimitName,
    perMinute: number,
    shared: { shared?: Limiter; unshared?: number } = {},
  ) => ({
    limit: createNetworkLimit({ name, perMinute, ...(siblings && { siblings }), ...shared }),
    onLimited: (ctx: Context) => events.rateLimited(requestFacts(ctx), name),
  })
  const refusals = makeLimiter({ name: 'refusals', points: operations.refusalLimit, duration: 60 })
  const refused = perNetwork('refusals', operations.refusalLimit, {
    shared: refusals,
    unshared: operations.refusalLimit / 10,
  })
  const authorize = perNetwork('authorize', operations.authorizeLimit)
  const always = {
    edgeRefusals: limitEdgeRefusals(perNetwork('edge_refusals', operations.edgeRefusalLimit)),
    refusals: limitRefusals(refused),
    authorize: limitRequests({ ...authorize, isKnown }),
    par: limitRequests(perNetwork('par', operations.parLimit)),
  }
  if (!operations.deviceFlow) return { ...always, deviceCodes: undefined, devicePages: undefined }
  // Anyone who knows the client_id of a public client may ask for codes, each is kept for a while,
  // and the more there are the sooner a user code is guessed: nodes share this count.
  const asked = makeLimiter({ name: 'device-codes', points: operations.deviceLimit, duration: 60 })
  const pages = perNetwork('device_pages', operations.devicePageLimit)
  return {
    ...always,
    deviceCodes: limitRequests(
      perNetwork('device_codes', operations.deviceLimit, { shared: asked }),
    ),
    devicePages: limitRequests({ ...pages, isKnown }),
  }
}
