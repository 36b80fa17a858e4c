import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { ClientMetadata } from 'oidc-provider'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { type RequestedMetadata, registerClient } from '../../src/clients/client-registration.ts'
import { parseConfig } from '../../src/config/config.ts'
import { freePort } from '../../src/net/free-port.ts'
import { createLog } from '../../src/observability/log.ts'
import { type RunningServer, type ServerOptions, startServer } from '../../src/server.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { openStorage, type Storage } from '../../src/storage/open-storage.ts'
import { cheapCost } from './accounts.ts'
import { type Hooks, limitTestsAtOnce } from './at-once.ts'
import { openTestDatabase } from './database.ts'
import { takeKey } from './ready-keys.ts'

export const email = 'ada@example.com'
export const password = 'correct horse battery staple'
export const api = 'https://api.example.com'

/** Puts itself between the server and its database, to count or to break. */
export type WrapDatabase = (database: Database) => Database

export interface TestServer extends RunningServer {
  readonly storage: Storage
  readonly databaseUrl: string
  /** Host and port of the metrics. */
  readonly operators: string
  /** Every line the server has logged. */
  readonly logged: readonly string[]
  /** Registers a client. Its metadata is that of {@link publicClient} with `changes`. */
  addClient(changes?: RequestedMetadata): Promise<ClientMetadata>
  /** Closes the server and leaves its storage open. */
  close(): Promise<void>
}

/** A public client of the code flow with a loopback redirect URI. */
export const publicClient: RequestedMetadata = {
  application_type: 'native',
  redirect_uris: ['http://127.0.0.1/callback'],
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  token_endpoint_auth_method: 'none',
}

export interface TestServerOptions extends Omit<ServerOptions, 'onStep' | 'worker'> {
  readonly wrap?: WrapDatabase
  /** The clock of what the server remembers of its database. */
  readonly now?: () => number
}

/**
 * Gives a test file a real server with a database of its own, one account, and the API {@link api}
 * with the scopes `read` and `write`. Plain HTTP on loopback, unless `environment` says otherwise.
 * The result is filled in when the tests begin; hooks that use it are declared after it.
 */
export function useTestServer(
  test: Hooks,
  environment: Record<string, string> = {},
  options: TestServerOptions = {},
): TestServer {
  const server = {}
  let opened: AsyncDisposableStack | undefined
  limitTestsAtOnce(test)
  test.serial.before(async () => {
    opened = new AsyncDisposableStack()
    Object.assign(server, opened.use(await startTestServer(environment, options)))
  })
  test.after.always('closes the server', () => opened?.disposeAsync())
  return server as TestServer
}

/** The server of {@link useTestServer}, for tests that start and stop their own. */
export async function startTestServer(
  environment: Record<string, string> = {},
  {
    wrap = (database) => database,
    now = Date.now,
    passwordCost = cheapCost,
    // Nor is any but one about how long a password waits.
    passwordPatienceMs = 60_000,
    ...options
  }: TestServerOptions = {},
): Promise<TestServer> {
  await using opened = new AsyncDisposableStack()
  const database = opened.use(await openTestDatabase())
  const dataFolder = await mkdtemp(path.join(tmpdir(), 'holdfast-data-'))
  opened.defer(() => rm(dataFolder, { recursive: true, force: true }))
  const operators = `127.0.0.1:${await freePort()}`
  const config = parseConfig({
    HOLDFAST_PORT: String(await freePort()),
    HOLDFAST_DATA: dataFolder,
    HOLDFAST_TLS: 'off',
    HOLDFAST_METRICS: operators,
    // All tests are one network, and most of them are refused something.
    HOLDFAST_LOGIN_LIMIT: '100000',
    HOLDFAST_LOGIN_NETWORK_LIMIT: '100000',
    HOLDFAST_REFUSAL_LIMIT: '100000',
    HOLDFAST_EDGE_REFUSAL_LIMIT: '100000',
    HOLDFAST_AUTHORIZE_LIMIT: '100000',
    HOLDFAST_PAR_LIMIT: '100000',
    HOLDFAST_DEVICE_PAGE_LIMIT: '100000',
    // Tests share a busy machine, and are not about that.
    HOLDFAST_LONGEST_WAIT_MS: '60000',
    DATABASE_URL: database.url,
    ...environment,
  })
  const logged: string[] = []
  const storage = opened.use(
    await openStorage({
      ...config,
      tracing: config.operations.tracing,
      onError: () => {},
      // Tests share a busy machine: none is about how long a connection is waited for.
      open: async (url, options) =>
        wrap(await openDatabase(url, { ...options, connectionTimeout: 60_000 })),
      now,
    }),
  )
  const log = createLog(config.logLevel, { write: (line) => logged.push(line) })
  const server = opened.use(
    await startServer(config, storage, log, {
      ...{ passwordCost, passwordPatienceMs, makeKey: takeKey },
      ...options,
    }),
  )
  await createAccounts({ store: storage.accounts, cost: passwordCost }).add({
    email,
    password,
    name: 'Ada',
  })
  await storage.resourceServers.insert({ identifier: api, name: null, scopes: ['read', 'write'] })
  const open = opened.move()
  return {
    ...server,
    storage,
    databaseUrl: database.url,
    operators,
    logged,
    addClient: (changes = {}) =>
      registerClient(
        { ...publicClient, ...changes },
        {
          table: storage.clients,
          validator: { Client: server.provider.Client, profile: config.protocol.profile },
        },
      ),
    close: async () => server[Symbol.asyncDispose](),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}
