import { setTimeout } from 'node:timers/promises'
import type { Context, Middleware } from 'koa'
import { NotReadyError } from './readiness.ts'
import { matchedRoute } from './routing.ts'

export interface HealthOptions {
  /** Resolves when the database can be used. */
  ping: () => Promise<void>
  /** Resolves when every process of this node does. */
  answer?: () => Promise<void>
  /** Milliseconds after which a database or a process that says nothing counts as gone. */
  deadline?: number
  /** Shown at `/livez`: for the listener of operators, and not for the public one. */
  version?: string
}

/**
 * `/livez`: whether this process should be left running. It never asks the database: to restart
 * every node because the database is away would only add to the outage. A node of several processes
 * asks those.
 *
 * `/readyz`: whether requests should be sent here. It asks the database, once for all that ask at
 * the same time: the address is public, and must not be a way to keep the pool busy.
 */
export function healthChecks({
  ping,
  answer,
  deadline = 2_000,
  version,
}: HealthOptions): Middleware {
  let asking: Promise<Health> | undefined
  const isReady = () => {
    asking ??= answersWithin(ping, deadline).finally(() => {
      asking = undefined
    })
    return asking
  }

  const isAlive = async () => (answer ? await answersWithin(answer, deadline) : healthy)

  async function respond(ctx: Context, name: 'livez' | 'readyz'): Promise<void> {
    const health = name === 'livez' ? await isAlive() : await isReady()
    ctx.set('cache-control', 'no-store')
    ctx.status = health.status === 'ok' ? 200 : 503
    ctx.body = name === 'livez' && version !== undefined ? { ...health, version } : health
  }

  return (ctx, next) => {
    const name = matchedRoute(ctx)?.name
    return name === 'livez' || name === 'readyz' ? respond(ctx, name) : next()
  }
}

interface Health {
  readonly status: 'ok' | 'unavailable'
  /** For people, where it says nothing of what is behind this server. */
  readonly reason?: string
}

const healthy: Health = { status: 'ok' }
const unavailable: Health = { status: 'unavailable' }

async function answersWithin(ping: () => Promise<void>, deadline: number): Promise<Health> {
  const timer = new AbortController()
  const late = setTimeout(deadline, unavailable, { signal: timer.signal }).catch(() => unavailable)
  try {
    return await Promise.race([
      ping().then(
        () => healthy,
        (error: unknown) =>
          error instanceof NotReadyError ? { ...unavailable, reason: error.message } : unavailable,
      ),
      late,
    ])
  } finally {
    timer.abort()
  }
}
