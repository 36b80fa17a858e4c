import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { registerClient } from '../../../src/clients/client-registration.ts'
import { parseConfig } from '../../../src/config/config.ts'
import { createLog } from '../../../src/observability/log.ts'
import { linesTo } from '../../../src/observability/log-lines.ts'
import { startServer } from '../../../src/server.ts'
import { openDatabase } from '../../../src/storage/database.ts'
import { openStorage } from '../../../src/storage/open-storage.ts'
import { createStatementCounter } from '../../support/counting.ts'
import { makeRefreshTokens } from './refresh-tokens.ts'
import {
  accountId,
  api,
  type Candidate,
  type CandidateOptions,
  clientMetadata,
} from './scenario.ts'

/** Holdfast as it is served, its log included, over plain HTTP as behind a proxy. */
export async function startHoldfast({
  databaseUrl,
  port,
  clientJwk,
}: CandidateOptions): Promise<Candidate> {
  await using opened = new AsyncDisposableStack()
  const dataFolder = await mkdtemp(path.join(tmpdir(), 'holdfast-bench-'))
  opened.defer(() => rm(dataFolder, { recursive: true, force: true }))
  const config = parseConfig({
    HOLDFAST_ISSUER: `http://127.0.0.1:${port}`,
    HOLDFAST_PORT: String(port),
    HOLDFAST_TLS: 'off',
    HOLDFAST_DATA: dataFolder,
    DATABASE_URL: databaseUrl,
  })
  const counter = createStatementCounter()
  const storage = opened.use(
    await openStorage({
      ...config,
      onError: (error) => console.error(error),
      open: async (...parameters) => counter.wrap(await openDatabase(...parameters)),
    }),
  )
  const server = opened.use(
    await startServer(config, storage, createLog(config.logLevel, linesTo(1))),
  )
  await storage.accounts.insert(
    { id: accountId, email: 'ada@example.com', disabled: false, createdAt: new Date() },
    'no password',
  )
  await storage.resourceServers.insert({ identifier: api, name: null, scopes: ['read'] })
  const registered = { table: storage.clients, validator: server.provider }
  const { client_secret } = await registerClient(clientMetadata('basic', clientJwk), registered)
  await registerClient(clientMetadata('private_key_jwt', clientJwk), registered)
  const bearer = await registerClient(clientMetadata('bearer', clientJwk), registered)
  const open = opened.move()
  return {
    issuer: config.issuer,
    clientSecret: client_secret as string,
    bearerSecret: bearer.client_secret,
    makeRefreshTokens: (...parameters) => makeRefreshTokens(server.provider, ...parameters),
    countStatements: () => counter.names.length,
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}
