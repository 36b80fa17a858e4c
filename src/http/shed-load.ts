import type { IncomingMessage } from 'node:http'
import { setTimeout } from 'node:timers/promises'
import type { Context, Middleware } from 'koa'
import {
  accepts,
  capacity,
  loopDelay,
  makesWayMs,
  samplePeriodMs,
  type WorkKind,
  workAtRest,
} from '../limits/overload.ts'
import { overloaded } from '../pages/error-messages.ts'
import { english } from '../pages/messages.ts'
import { letScriptsRead } from './cross-origin.ts'
import { type AdminRouteName, adminRoutes, allRoutes, type RouteName } from './routes.ts'
import { matchedRoute } from './routing.ts'
import { securityHeaders } from './security-headers.ts'

/** Where clients come for tokens, and administration; everything else is for people. */
const clientRoutes: ReadonlySet<string> = new Set<RouteName>([
  'token',
  'introspect',
  'revoke',
  'jwks',
  'par',
  'backchannel_authentication',
  'device_authorization',
  'userinfo',
  'openid_metadata',
  'oauth_metadata',
  ...(Object.keys(adminRoutes) as AdminRouteName[]),
])

/** Never refused: a busy node that seems dead would be restarted, or its load sent to the others. */
const healthRoutes: ReadonlySet<string> = new Set<RouteName>(['livez', 'readyz'])

/** Refusals that wait to be answered: beyond them a refusal comes at once, and closes its connection. */
const mostHeldBack = 1000

/**
 * Milliseconds until a refusal is answered. Clients that ask again at once would take the time of
 * those that are served; what was refused together does not come back together.
 */
const untilAnswered = () => 500 + 1000 * Math.random()

export interface ShedLoadOptions {
  readonly issuer: string
  readonly longestWaitMs: number
  /** For how long a statement waits for a connection now. */
  readonly poolWaitMs: () => number
  readonly onShed: (kind: WorkKind) => void
  /** The page for people. */
  readonly page: (requestId: string) => string
  /** Milliseconds that never go back. */
  readonly now?: () => number
  readonly holdMs?: () => number
  readonly mostHeld?: number
}

/** Routes that may check a password: the sign-in, and every change that a person confirms. */
const passwordRoutes: ReadonlySet<string> = new Set(
  (Object.keys(allRoutes) as RouteName[]).filter(
    (name) => name === 'sign_in_submit' || /^security_.*_submit$/.test(name),
  ),
)

/**
 * Refuses with 503, before anything but routing is done, what a busy node could not serve in
 * time. A path without a route is served no sooner than one for people. The answer waits for about a
 * second: it says when to come back, and a client that does not wait is made to.
 */
export function shedLoad({
  issuer,
  longestWaitMs,
  poolWaitMs,
  onShed,
  page,
  now = () => performance.now(),
  holdMs = untilAnswered,
  mostHeld = mostHeldBack,
}: ShedLoadOptions): { readonly middleware: Middleware } & Disposable {
  const lanes = { tokens: openLane('tokens'), 'sign-ins': openLane('sign-ins') }
  let delays = { loopDelayMs: 0, poolWaitMs: 0 }
  let sampledAt = now()
  let tokensRefusedAt = Number.NEGATIVE_INFINITY
  const tokensAreRefused = () => now() - tokensRefusedAt < makesWayMs

  const timer = setInterval(() => {
    const elapsedMs = now() - sampledAt
    sampledAt += elapsedMs
    for (const lane of Object.values(lanes)) lane.sample(elapsedMs)
    delays = {
      loopDelayMs: loopDelay(delays.loopDelayMs, elapsedMs),
      poolWaitMs: poolWaitMs(),
    }
  }, samplePeriodMs)
  timer.unref()

  const headers = securityHeaders({ issuer })
  let held = 0
  async function hold(ctx: Context): Promise<void> {
    if (held >= mostHeld) {
      ctx.set('connection', 'close')
      return
    }
    held += 1
    await setTimeout(holdMs())
    held -= 1
  }

  return {
    middleware(ctx, next) {
      const name = matchedRoute(ctx)?.name ?? ''
      if (healthRoutes.has(name)) return next()
      const kind = clientRoutes.has(name) ? 'tokens' : 'sign-ins'
      const seen = { ...delays, tokensAreRefused: tokensAreRefused() }
      if (accepts(kind, lanes[kind].work(), seen, longestWaitMs)) {
        // A password waits in a queue of its own, which is no reason to refuse anything else.
        return passwordRoutes.has(name) ? next() : lanes[kind].enter(ctx.req, next)
      }
      onShed(kind)
      if (kind === 'tokens') tokensRefusedAt = now()
      return headers(ctx, async () => {
        await hold(ctx)
        refuse(ctx, page)
      })
    },
    [Symbol.dispose]: () => clearInterval(timer),
  }
}

/** The requests of one kind that are in work. */
function openLane(kind: WorkKind) {
  /** Whether each is active. */
  const unfinished = new Map<IncomingMessage, boolean>()
  let { active, begun, perSecond } = workAtRest(kind)
  let finished = 0
  return {
    work: () => ({ active, begun, perSecond }),

    async enter(request: IncomingMessage, next: () => Promise<unknown>) {
      unfinished.set(request, true)
      active += 1
      begun += 1
      try {
        await next()
      } finally {
        if (unfinished.get(request)) active -= 1
        unfinished.delete(request)
        finished += 1
      }
    },

    sample(elapsedMs: number) {
      perSecond = capacity(kind, { active, perSecond }, { finished, elapsedMs })
      finished = 0
      begun = 0
      active = 0
      for (const request of unfinished.keys()) {
        // A request whose body is slow takes nothing from the others, and must not keep them out.
        unfinished.set(request, request.complete)
        if (request.complete) active += 1
      }
    },
  }
}

function refuse(ctx: Context, page: ShedLoadOptions['page']) {
  ctx.status = 503
  ctx.set('cache-control', 'no-store')
  letScriptsRead(ctx)
  if (ctx.accepts('json', 'html') === 'html') {
    ctx.type = 'html'
    ctx.body = page(ctx.state.requestId)
  } else {
    ctx.body = { error: overloaded.code, error_description: english.text(overloaded.sentence) }
  }
}
