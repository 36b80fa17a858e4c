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
import { type RequestedMetadata, registerClient } from '../provider/client-registration.ts'
import { startServer } from '../server.ts'
import { startEmbeddedPostgres } from '../storage/embedded-postgres.ts'
import { openStorage } from '../storage/open-storage.ts'
import { createApi } from './api.ts'

export type World = Awaited<ReturnType<typeof openWorld>>

/**
 * Boots everything a story needs, for real, on free ports of loopback and in a temporary folder:
 * PostgreSQL, the identity provider and the API over HTTPS, and an account.
 */
export async function openWorld(
  tell: (text: string) => void,
  { certificates = false, sessionProof }: { certificates?: boolean; sessionProof?: number } = {},
) {
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
    ...(sessionProof && { HOLDFAST_SESSION_PROOF_SECONDS: String(sessionProof) }),
    ...(certificates && { HOLDFAST_MTLS_PORT: String(await freePort()) }),
  })
  tell('migrations')
  const storage = opened.use(await openStorage({ ...config, onError: () => {} }))

  tell('identity provider')
  const server = opened.use(await startServer(config, storage, createLog(config.logLevel)))
  const { issuer, authorityFile } = server
  const authority = await readFile(authorityFile ?? '', 'utf8')
  tls.setDefaultCACertificates([...tls.getCACertificates('default'), authority])
  const email = 'ada@example.com'
  const password = generatePassword()
  await createAccounts({ store: storage.accounts }).add({ email, password, name: 'Ada' })

  tell('API')
  const apiPort = await freePort()
  const audience = `https://localhost:${apiPort}`
  await storage.resourceServers.insert({ identifier: audience, name: 'Orders', scopes: ['read'] })
  const api = createApi({ issuer, audience })
  const apiConfig = { ...config, listen: { ...config.listen, port: apiPort } }
  opened.use(await listen(api.callback(), apiConfig, { askForCertificates: certificates }))

  tell('relying party')
  const open = opened.move()
  return {
    issuer,
    mtlsOrigin: config.mtls.origin ?? issuer,
    audience,
    apiUrl: `${audience}/orders`,
    email,
    password,
    /** The certificate of the authority that signs for the identity provider and the API. */
    authority,
    sessions: storage.browserSessions,
    accounts: storage.accounts,
    register: (metadata: RequestedMetadata) =>
      registerClient(metadata, { table: storage.clients, validator: server.provider }),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}
