import { agentDocument, documentHosts } from '../../test/support/agents.ts'
import { openEnvironment } from './environment.ts'
import { createMcpApi, mcpPaths } from './mcp-api.ts'
import type { McpFixtures } from './mcp-scenario.ts'

const redirectUri = 'http://127.0.0.1/callback'

/** An identity provider that agents find by themselves, and an MCP server. Nothing is registered. */
export async function setUpMcp(report: (text: string) => void): Promise<McpFixtures> {
  await using opened = new AsyncDisposableStack()
  // The web, as far as this scenario needs it: documents at their hosts.
  const hosts = documentHosts()
  const environment = opened.use(
    await openEnvironment(report, {
      environment: { HOLDFAST_CLIENT_ID_METADATA: 'on' },
      guardedFetch: hosts.guardedFetch,
      makeApi: createMcpApi,
      scopes: { identifier: mcpPaths.tools, open: ['mcp:tools'] },
    }),
  )
  const clientId = 'https://agent.example/oauth/client.json'
  hosts.documents.set(clientId, agentDocument(clientId, { redirect_uris: [redirectUri] }))
  const fakeId = 'https://thief.example/oauth/client.json'
  hosts.documents.set(fakeId, agentDocument(clientId))
  const open = opened.move()
  return {
    ...environment,
    clientId,
    fakeId,
    redirectUri,
    resource: environment.audience + mcpPaths.tools,
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}
