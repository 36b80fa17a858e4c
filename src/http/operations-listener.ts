import { once } from 'node:events'
import { createServer } from 'node:http'
import Koa from 'koa'
import type { Registry } from 'prom-client'
import { ListenError } from '../net/listen-error.ts'
import { boundConnections, boundUnanswered } from './unanswered-requests.ts'

/**
 * `/metrics` for Prometheus, on an address of its own over plain HTTP. Metrics tell how much is
 * stolen and refused here; who may read them is a matter of which network reaches the address, as
 * for every other target of the same Prometheus, and no secret has to be kept for it.
 */
export async function listenForOperators({
  address: { host, port },
  registry,
  middleware,
}: {
  address: { host: string; port: number }
  registry: Registry
  /** What else is answered here. */
  middleware: readonly Koa.Middleware[]
}): Promise<AsyncDisposable> {
  const app = new Koa()
  for (const each of middleware) app.use(each)
  app.use(async (ctx) => {
    if (ctx.path !== '/metrics') return
    ctx.type = registry.contentType
    ctx.body = await registry.metrics()
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
