// An MCP server (Streamable HTTP) that takes bound access tokens alone.
import { createMcpGuard } from '@holdfast/verify/mcp'
import express from 'express'

export function mcpServer({ transport, ...options }) {
  const guard = createMcpGuard({
    issuer: 'https://as.example',
    resource: 'https://mcp.example/mcp',
    scopes: ['mcp:tools'],
    tools: { delete_note: ['notes:write'] },
    ...options,
  })
  const app = express()
  app.use(guard.middleware)
  app.all('/mcp', (req, res) => transport.handleRequest(req, res, req.body))
  return app
}
