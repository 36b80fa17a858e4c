import type { IncomingMessage } from 'node:http'
import type { Context, Middleware } from 'koa'
import {
  accepts,
  capacity,
  type Delays,
  loopDelay,
  samplePeriodMs,
  type WorkKind,
  workAtRest,
} from '../limits/overload.ts'
import { OVERLOADED } from './error-words.ts'
import { securityHeaders } from './security-headers.ts'

/** Where clients come for tokens: everything else but administration is for people. */
const tokenPaths = [
  '/token',
  '/introspect',
  '/revoke',
  '/jwks',
  '/par',
  '/device_authorization',
  '/userinfo',
  '/.well-known/openid-configuration',
  '/.well-known/oauth-authorization-server',
]

export interface ShedLoadOptions {
  /** The path below which requests arrive. */
  readonly arrivalPath: string
  readonly longestWaitMs: number
  /** For how long a statement waits for a connection now. */
  readonly poolWaitMs: () => number
  readonly onShed: (kind: WorkKind) => void
  /** The page for people. */
  readonly page: (requestId: string) => string
  /** Milliseconds that never go back. */
  readonly now?: () => number
}

/**
 * Refuses with 503, before anything else is done, what a busy node could not serve in time. It
 * looks at the path as it arrived: another spelling of one is never served sooner.
 */
export function shedLoad({
  arrivalPath,
  longestWaitMs,
  poolWaitMs,
  onShed,
  page,
  now = () => performance.now(),
}: ShedLoadOptions): { readonly middleware: Middleware } & Disposable {
  const kindOf = classify(arrivalPath)
  const health = new Set(['/livez', '/readyz'].map((path) => arrivalPath + path))
  const lanes = { tokens: openLane('tokens'), 'sign-ins': openLane('sign-ins') }
  let delays: Delays = { loopDelayMs: 0, poolWaitMs: 0 }
  let sampledAt = now()

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

  const headers = securityHeaders()
  return {
    middleware(ctx, next) {
      if (health.has(ctx.path)) return next()
      const kind = kindOf(ctx.path)
      if (accepts(kind, lanes[kind].work(), delays, longestWaitMs)) {
        // A password waits in a queue of its own, which is no reason to refuse anything else.
        return isPassword(ctx, arrivalPath) ? next() : lanes[kind].enter(ctx.req, next)
      }
      onShed(kind)
      return headers(ctx, async () => refuse(ctx, page))
    },
    [Symbol.dispose]: () => clearInterval(timer),
  }
}

function classify(arrivalPath: string): (path: string) => WorkKind {
  const paths = new Set(tokenPaths.map((path) => arrivalPath + path))
  const administration = `${arrivalPath}/admin/`
  return (path) => (paths.has(path) || path.startsWith(administration) ? 'tokens' : 'sign-ins')
}

function isPassword({ method, path }: Context, arrivalPath: string): boolean {
  return (
    method === 'POST' && path.startsWith(`${arrivalPath}/interaction/`) && /\/login$/.test(path)
  )
}

/** The requests of one kind that are in work. */
function openLane(kind: WorkKind) {
  const begun = new Map<symbol, { readonly request: IncomingMessage; isActive: boolean }>()
  let { active, perSecond } = workAtRest(kind)
  let finished = 0
  return {
    work: () => ({ active, perSecond }),

    async enter(request: IncomingMessage, next: () => Promise<unknown>) {
      const key = Symbol()
      begun.set(key, { request, isActive: true })
      active += 1
      try {
        await next()
      } finally {
        if (begun.get(key)?.isActive) active -= 1
        begun.delete(key)
        finished += 1
      }
    },

    sample(elapsedMs: number) {
      perSecond = capacity(kind, { active, perSecond }, { finished, elapsedMs })
      finished = 0
      active = 0
      for (const each of begun.values()) {
        // A request whose body is slow takes nothing from the others, and must not keep them out.
        each.isActive = each.request.complete
        if (each.isActive) active += 1
      }
    },
  }
}

function refuse(ctx: Context, page: ShedLoadOptions['page']) {
  ctx.status = 503
  ctx.set('cache-control', 'no-store')
  if (ctx.accepts('json', 'html') === 'html') {
    ctx.type = 'html'
    ctx.body = page(ctx.state.requestId)
  } else {
    ctx.body = { error: OVERLOADED.code, error_description: OVERLOADED.sentence }
  }
}
