/** An agent by @modelcontextprotocol/client 2, which knows DPoP. Its argument is an address. */
import {
  Client,
  DpopSession,
  StreamableHTTPClientTransport,
  UnauthorizedError,
} from '@modelcontextprotocol/client'
import { agentProvider, authorizeInBrowser, report } from './person.js'

const session = DpopSession.create()
const provider = agentProvider({ dpop: () => session })
const address = new URL(process.argv.at(-1))
const connect = async () => {
  const transport = new StreamableHTTPClientTransport(address, { authProvider: provider })
  const client = new Client({ name: 'agent', version: '1.0.0' })
  return { transport, client, done: client.connect(transport) }
}

let { transport, client, done } = await connect()
try {
  await done
} catch (error) {
  if (!(error instanceof UnauthorizedError)) throw error
  await transport.finishAuth(await authorizeInBrowser(provider.kept.authorization))
  const again = await connect()
  client = again.client
  await again.done
}
const { tools } = await client.listTools()
report(provider, await client.callTool({ name: tools[0].name, arguments: {} }))
