import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { hashPassword } from '../../../src/accounts/password.ts'
import { registerClient } from '../../../src/clients/client-registration.ts'
import { parseConfig } from '../../../src/config/config.ts'
import { createLog } from '../../../src/observability/log.ts'
import { linesTo } from '../../../src/observability/log-lines.ts'
import { startServer } from '../../../src/server.ts'
import { openDatabase } from '../../../src/storage/database.ts'
import { openStorage, type Storage } from '../../../src/storage/open-storage.ts'
import { createStatementCounter } from '../../support/counting.ts'
import { makeCredentials } from './credentials.ts'
import { makeDeviceCodes } from './device-codes.ts'
import {
  accountId,
  api,
  type Candidate,
  type CandidateOptions,
  clientMetadata,
  clients,
  emailOf,
  password,
} from './scenario.ts'

/** Holdfast as it is served, its log included, over plain HTTP as behind a proxy. */
export async function startHoldfast({
  databaseUrl,
  port,
  clientKeys,
  people,
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
    // The generator of the load is the proxy: certificates come by its header.
    HOLDFAST_DEVICE_FLOW: 'on',
    HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
    HOLDFAST_CLIENT_CERT_FORMAT: 'rfc9440',
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
    await startServer(config, storage, createLog(config.logLevel, linesTo(1)), {
      passwordCost: people?.cost,
    }),
  )
  await storage.accounts.insert(
    { id: accountId, email: 'ada@example.com', disabled: false, createdAt: new Date() },
    'no password',
  )
  if (people) await addPeople(storage, people)
  await storage.resourceServers.insert({ identifier: api, name: null, scopes: ['read'] })
  const registered = { table: storage.clients, validator: server.provider }
  const secrets: Record<string, string> = {}
  for (const client of clients) {
    const made = await registerClient(clientMetadata(client, clientKeys), registered)
    secrets[made.client_id] = made.client_secret ?? ''
  }
  const open = opened.move()
  let taken = 0
  return {
    issuer: config.issuer,
    secrets,
    makeCredentials: (order) =>
      order.kind === 'DeviceCode'
        ? makeDeviceCodes(storage, order)
        : makeCredentials(server.provider, order),
    countStatements: () => counter.names.length,
    takeStatements() {
      const names = counter.names.slice(taken)
      taken += names.length
      return names
    },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

/** All have one hash: it is the work of checking it that counts. */
async function addPeople(
  { accounts }: Pick<Storage, 'accounts'>,
  { count, cost }: NonNullable<CandidateOptions['people']>,
): Promise<void> {
  const hash = await hashPassword(password, cost)
  for (let person = 0; person < count; person += 1) {
    const account = { id: `person-${person}`, email: emailOf(person), disabled: false }
    await accounts.insert({ ...account, createdAt: new Date() }, hash)
  }
}
