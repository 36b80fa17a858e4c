import { setTimeout } from 'node:timers/promises'
import type { Middleware } from 'koa'
import { matchedRoute } from './routing.ts'

export interface HealthOptions {
  /** Resolves when the database can be used. */
  ping: () => Promise<void>
  /** Milliseconds after which a database that says nothing counts as gone. */
  deadline?: number
  /** Shown at `/livez`: for the listener of operators, and not for the public one. */
  version?: string
}

/**
 * `/livez`: whether this process should be left running. It never asks the database: to restart
 * every node because the database is away would only add to the outage.
 *
 * `/readyz`: whether requests should be sent here. It asks the database, once for all that ask at
 * the same time: the address is public, and must not be a way to keep the pool busy.
 */
export function healthChecks({ ping, deadline = 2_000, version }: HealthOptions): Middleware {
  let asking: Promise<boolean> | undefined
  const isReady = () => {
    asking ??= answersWithin(ping, deadline).finally(() => {
      asking = undefined
    })
    return asking
  }

  return async (ctx, next) => {
    const name = matchedRoute(ctx)?.name
    if (name !== 'livez' && name !== 'readyz') return next()
    const ok = name === 'livez' || (await isReady())
    ctx.set('cache-control', 'no-store')
    ctx.status = ok ? 200 : 503
    ctx.body = {
      status: ok ? 'ok' : 'unavailable',
      ...(name === 'livez' && version !== undefined && { version }),
    }
  }
}

async function answersWithin(ping: () => Promise<void>, deadline: number): Promise<boolean> {
  const timer = new AbortController()
  const late = setTimeout(deadline, false, { signal: timer.signal }).catch(() => false)
  try {
    return await Promise.race([
      ping().then(
        () => true,
        () => false,
      ),
      late,
    ])
  } finally {
    timer.abort()
  }
}
