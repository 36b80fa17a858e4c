import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createRequire } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { createMcpGuard } from '../../packages/verify/mcp.ts'

/** What is needed of @modelcontextprotocol/server, which is installed when it is needed. */
interface McpServerLibrary {
  readonly McpServer: new (about: {
    name: string
    version: string
  }) => {
    registerTool(name: string, config: object, handle: (...given: unknown[]) => object): void
  }
  createMcpHandler(make: (context: { authInfo?: { clientId: string } }) => object): {
    fetch(request: Request, options: { authInfo?: object; parsedBody?: unknown }): Promise<Response>
  }
}

export interface McpServerOptions {
  readonly port: number
  readonly issuer: string
  /** Where the library is installed. */
  readonly folder: string
}

/** An MCP server with one tool, guarded in one line. */
export async function startMcpServer({ port, issuer, folder }: McpServerOptions) {
  const installed = createRequire(path.join(folder, 'package.json'))
  const file = installed.resolve('@modelcontextprotocol/server').replace(/\.cjs$/, '.mjs')
  const library: McpServerLibrary = await import(pathToFileURL(file).href)
  const resource = `http://localhost:${port}/mcp`
  const guard = createMcpGuard({ issuer, resource, scopes: ['mcp:tools'] })
  const handler = library.createMcpHandler(({ authInfo }) => {
    const server = new library.McpServer({ name: 'notes', version: '1.0.0' })
    const config = { description: 'Says who is calling', inputSchema: undefined }
    server.registerTool('whoami', config, () => ({
      content: [{ type: 'text', text: `You are ${authInfo?.clientId}` }],
    }))
    return server
  })

  async function answer(request: Request): Promise<Response> {
    const admission = await guard.fetch(request)
    if (admission.response) return admission.response
    const { authInfo, headers } = admission
    const response = await handler.fetch(request, { authInfo })
    for (const [name, value] of Object.entries(headers)) response.headers.set(name, value)
    return response
  }

  const server = createServer((incoming, outgoing) => {
    asRequest(incoming, `http://localhost:${port}`)
      .then(answer)
      .then((response) => write(response, outgoing))
      .catch((error) => outgoing.destroy(error))
  })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  return {
    resource,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
    },
  }
}

async function asRequest(incoming: IncomingMessage, origin: string): Promise<Request> {
  const { method = 'GET', url = '/', headersDistinct } = incoming
  const headers = Object.entries(headersDistinct).flatMap(([name, values = []]) =>
    values.map((value): [string, string] => [name, value]),
  )
  const body = Buffer.concat(await incoming.toArray())
  return new Request(origin + url, { method, headers, ...(body.length > 0 && { body }) })
}

async function write(response: Response, outgoing: ServerResponse): Promise<void> {
  outgoing.writeHead(response.status, Object.fromEntries(response.headers))
  for await (const chunk of response.body ?? []) outgoing.write(chunk)
  outgoing.end()
}
