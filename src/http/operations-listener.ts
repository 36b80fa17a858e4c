import { once } from 'node:events'
import { createServer } from 'node:http'
import Koa from 'koa'
import { Registry } from 'prom-client'
import type { Config } from '../config/config.ts'
import { version } from '../config/version.ts'
import { ListenError } from '../net/listen-error.ts'
import { type HealthOptions, healthChecks } from './health.ts'
import { routing } from './routing.ts'
import { boundConnections, boundUnanswered } from './unanswered-requests.ts'

/**
 * `/metrics` for Prometheus, `/livez` and `/readyz`, on an address of its own over plain HTTP. Metrics tell how much is
 * stolen and refused here; who may read them is a matter of which network reaches the address, as
 * for every other target of the same Prometheus, and no secret has to be kept for it.
 */
export async function listenForOperators({
  address: { host, port },
  config: { issuer, operations },
  metrics,
  ...health
}: {
  address: { host: string; port: number }
  config: Pick<Config, 'issuer' | 'operations'>
  /** All of them, as Prometheus reads them. */
  metrics: () => Promise<string>
} & Pick<HealthOptions, 'ping' | 'answer'>): Promise<AsyncDisposable> {
  const app = new Koa()
  app.use(routing({ issuer, arrivalPath: '', features: { ...operations, signUp: false } }))
  app.use(healthChecks({ ...health, version }))
  app.use(async (ctx) => {
    if (ctx.path !== '/metrics') return
    ctx.type = Registry.PROMETHEUS_CONTENT_TYPE
    ctx.body = await metrics()
  })
  const server = createServer(boundUnanswered(app.callback()).listener)
  boundConnections(server)
  server.listen(port, host)
  try {
    await once(server, 'listening')
  } catch (cause) {
    throw new ListenError(
      'address_unusable',
      `Cannot listen on HOLDFAST_METRICS ${host}:${port} (${(cause as NodeJS.ErrnoException).code}).`,
      { cause },
    )
  }
  return {
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}
