import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import type { ExecutionContext } from 'ava'
import type Koa from 'koa'

/** Serves an application on a port of loopback until the test ends, and gives its origin. */
export async function serve(t: ExecutionContext, app: Koa): Promise<string> {
  const server = app.listen(0, '127.0.0.1')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
