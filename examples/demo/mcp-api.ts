import { randomBytes } from 'node:crypto'
import { koaVerify } from '@holdfast/verify/koa'
import { createMcpGuard } from '@holdfast/verify/mcp'
import { createTickets } from '@holdfast/verify/ticket'
import Koa, { type Context } from 'koa'

export const mcpPaths = { tools: '/mcp', tickets: '/mcp/tickets', stream: '/mcp/stream' }

/** An MCP server with tools, and a stream that a browser or a player opens by a ticket. */
export function createMcpApi({ issuer, audience }: { issuer: string; audience: string }): Koa {
  const resource = audience + mcpPaths.tools
  const guard = createMcpGuard({ issuer, resource, scopes: ['mcp:tools'] })
  const tickets = createTickets(guard.verifier, { secrets: [randomBytes(32)], lifetime: 60 })
  const api = new Koa()
  const openStream = koaVerify(tickets)

  api.use(async (ctx, next) => {
    if (ctx.path === mcpPaths.stream) await openStream(ctx, next)
    else await guarded(ctx)
  })
  api.use((ctx) => {
    ctx.body = { stream: ctx.state.auth.claims.client_id }
  })

  async function guarded(ctx: Context): Promise<void> {
    const headers = new Headers()
    for (let at = 0; at < ctx.req.rawHeaders.length; at += 2) {
      headers.append(String(ctx.req.rawHeaders[at]), String(ctx.req.rawHeaders[at + 1]))
    }
    const { method } = ctx
    const admission = await guard.fetch(new Request(audience + ctx.url, { method, headers }))
    if (admission.response) {
      const { response } = admission
      ctx.status = response.status
      ctx.set(Object.fromEntries(response.headers))
      ctx.body = await response.text()
      return
    }
    const { authInfo } = admission
    ctx.set({ ...admission.headers })
    ctx.body =
      ctx.path === mcpPaths.tickets
        ? { ticket: tickets.issue(authInfo.extra.verified, { url: mcpPaths.stream }) }
        : { result: `You are ${authInfo.clientId}` }
  }

  return api
}
