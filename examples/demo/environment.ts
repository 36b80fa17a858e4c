import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import tls from 'node:tls'
import type Koa from 'koa'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { generatePassword } from '../../src/accounts/password.ts'
import { type RequestedMetadata, registerClient } from '../../src/clients/client-registration.ts'
import { parseConfig } from '../../src/config/config.ts'
import { listen } from '../../src/http/listen.ts'
import { freePort } from '../../src/net/free-port.ts'
import type { GuardedFetch } from '../../src/net/guarded-fetch.ts'
import { createLog } from '../../src/observability/log.ts'
import { startServer } from '../../src/server.ts'
import { startEmbeddedPostgres } from '../../src/storage/embedded-postgres.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { createApi } from './api.ts'

export type Environment = Awaited<ReturnType<typeof openEnvironment>>

export interface EnvironmentOptions {
  /** Whether the identity provider and the API ask their clients for certificates. */
  readonly certificates?: boolean
  readonly environment?: Readonly<Record<string, string>>
  /** What the identity provider and the API are called on loopback. */
  readonly names?: { readonly issuer: string; readonly api: string }
  readonly makeApi?: (api: { issuer: string; audience: string }) => Koa
  /** What fetches the documents that clients name by URL. */
  readonly guardedFetch?: GuardedFetch
  /** The path of the API that tokens are for, and its scopes, which are open to every client. */
  readonly scopes?: { readonly identifier: string; readonly open: readonly string[] }
}

/**
 * Boots everything that a scenario needs, for real, on free ports of loopback and in a temporary folder:
 * PostgreSQL, the identity provider and the API over HTTPS, and an account.
 */
export async function openEnvironment(
  report: (text: string) => void,
  {
    certificates = false,
    environment = {},
    names = { issuer: 'localhost', api: 'localhost' },
    makeApi = createApi,
    guardedFetch,
    scopes: { identifier, open: openScopes } = { identifier: '', open: [] },
  }: EnvironmentOptions = {},
) {
  await using opened = new AsyncDisposableStack()
  const dataFolder = await mkdtemp(path.join(tmpdir(), 'holdfast-demo-'))
  opened.defer(() => rm(dataFolder, { recursive: true, force: true }))
  // Root's PostgreSQL runs as another user, who must get in.
  await chmod(dataFolder, 0o755)

  report('PostgreSQL')
  const postgres = opened.use(await startEmbeddedPostgres({ folder: dataFolder, disposable: true }))
  const port = await freePort()
  const variables = {
    DATABASE_URL: postgres.connectionString,
    HOLDFAST_DATA: dataFolder,
    HOLDFAST_PORT: String(port),
    HOLDFAST_ISSUER: `https://${names.issuer}:${port}`,
    HOLDFAST_LOG_LEVEL: 'silent',
    ...environment,
    ...(certificates && { HOLDFAST_MTLS_PORT: String(await freePort()) }),
  }
  const config = parseConfig(variables)
  report('migrations')
  const storage = opened.use(await openStorage({ ...config, onError: () => {} }))

  report('identity provider')
  const server = opened.use(
    await startServer(config, storage, createLog(config.logLevel), { guardedFetch }),
  )
  const { issuer, authorityFile } = server
  const authority = await readFile(authorityFile ?? '', 'utf8')
  tls.setDefaultCACertificates([...tls.getCACertificates('default'), authority])
  const email = 'ada@example.com'
  const password = generatePassword()
  await createAccounts({ store: storage.accounts }).add({ email, password, name: 'Ada' })

  report('API')
  /** Serves at a name, over TLS with a certificate from the same authority. */
  const serve = async (name: string, make: (origin: string) => Koa) => {
    const port = await freePort()
    const origin = `https://${name}:${port}`
    const place = { ...config, issuer: origin, listen: { ...config.listen, port } }
    const handler = make(origin).callback()
    return { origin, ...(await listen(handler, place, { askForCertificates: certificates })) }
  }
  const { origin: audience } = opened.use(
    await serve(names.api, (origin) => makeApi({ issuer, audience: origin })),
  )
  await storage.resourceServers.insert({
    identifier: audience + identifier,
    name: 'Orders',
    scopes: ['read', ...openScopes],
    openScopes,
  })

  report('relying party')
  const open = opened.move()
  return {
    issuer,
    /** For commands that work on the same installation. */
    variables,
    mtlsOrigin: config.mtls.origin ?? issuer,
    audience,
    apiUrl: `${audience}/orders`,
    email,
    password,
    /** Where the certificates and keys of this installation are. */
    dataFolder,
    authorityFile: authorityFile ?? '',
    /** The certificate of the authority that signs for the identity provider and the API. */
    authority,
    sessions: storage.browserSessions,
    accounts: storage.accounts,
    serve,
    /** Another API that tokens are for. */
    addResource: (identifier: string, scopes: string[]) =>
      storage.resourceServers.insert({ identifier, name: identifier, scopes }),
    register: (metadata: RequestedMetadata) =>
      registerClient(metadata, { table: storage.clients, validator: server.provider }),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}
