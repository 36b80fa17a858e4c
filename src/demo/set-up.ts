import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import tls from 'node:tls'
import { createAccounts } from '../accounts/accounts.ts'
import { generatePassword } from '../accounts/password.ts'
import { parseConfig } from '../config/config.ts'
import { freePort } from '../http/free-port.ts'
import { listen } from '../http/listen.ts'
import { createLog } from '../observability/log.ts'
import { registerClient } from '../provider/client-registration.ts'
import { startServer } from '../server.ts'
import { startEmbeddedPostgres } from '../storage/embedded-postgres.ts'
import { openStorage } from '../storage/open-storage.ts'
import { createApi } from './api.ts'
import { createRelyingParty } from './relying-party.ts'
import type { Stage } from './story.ts'

/**
 * Boots everything the story needs, for real, on free ports of loopback and in a temporary folder:
 * PostgreSQL, the identity provider and the API over HTTPS, an account, a confidential client.
 */
export async function setUp(tell: (text: string) => void): Promise<Stage & AsyncDisposable> {
  await using opened = new AsyncDisposableStack()
  const dataFolder = await mkdtemp(path.join(tmpdir(), 'holdfast-demo-'))
  opened.defer(() => rm(dataFolder, { recursive: true, force: true }))
  // Root's PostgreSQL runs as another user, who must get in.
  await chmod(dataFolder, 0o755)

  tell('PostgreSQL')
  const postgres = opened.use(await startEmbeddedPostgres({ folder: dataFolder, disposable: true }))
  const config = parseConfig({
    DATABASE_URL: postgres.connectionString,
    HOLDFAST_DATA: dataFolder,
    HOLDFAST_PORT: String(await freePort()),
    HOLDFAST_LOG_LEVEL: 'silent',
  })
  tell('migrations')
  const storage = opened.use(await openStorage({ ...config, onError: () => {} }))

  tell('identity provider')
  const server = opened.use(await startServer(config, storage, createLog(config.logLevel)))
  const { issuer, authorityFile } = server
  if (authorityFile) {
    const authority = await readFile(authorityFile, 'utf8')
    tls.setDefaultCACertificates([...tls.getCACertificates('default'), authority])
  }
  const email = 'ada@example.com'
  const password = generatePassword()
  await createAccounts({ store: storage.accounts }).add({ email, password, name: 'Ada' })

  tell('API')
  const apiPort = await freePort()
  const audience = `https://localhost:${apiPort}`
  await storage.resourceServers.insert({ identifier: audience, name: 'Orders', scopes: ['read'] })
  const api = createApi({ issuer, audience })
  opened.use(
    await listen(api.callback(), { ...config, listen: { ...config.listen, port: apiPort } }),
  )

  tell('relying party')
  // The browser of the story stops at this address; nothing needs to listen there.
  const redirectUri = 'https://app.example/callback'
  const client = await registerClient(
    {
      client_id: 'demo-app',
      client_name: 'Demo app',
      redirect_uris: [redirectUri],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
    },
    { table: storage.clients, validator: server.provider },
  )
  const clientSecret = client.client_secret ?? ''
  let lastResponse = Response.error()
  const relyingParty = await createRelyingParty({
    issuer,
    clientId: client.client_id,
    clientSecret,
    redirectUri,
    resource: audience,
    fetch: async (...request) => {
      lastResponse = await fetch(...request)
      return lastResponse
    },
  })

  const open = opened.move()
  return {
    issuer,
    apiUrl: `${audience}/orders`,
    redirectUri,
    clientId: client.client_id,
    clientSecret,
    email,
    password,
    relyingParty,
    lastResponse: () => lastResponse,
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}
