import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { registerClient } from '../../src/clients/client-registration.ts'
import { parseConfig } from '../../src/config/config.ts'
import { freePort } from '../../src/net/free-port.ts'
import { createLog } from '../../src/observability/log.ts'
import { startServer } from '../../src/server.ts'
import { openStorage, type Storage } from '../../src/storage/open-storage.ts'
import { serve } from '../support/cli.ts'
import type { CandidateProcess } from './token/candidate-process.ts'
import { makeCredentials } from './token/credentials.ts'
import { accountId, api, type ClientKeys, clientMetadata, clients } from './token/scenario.ts'

export interface ServingNode extends CandidateProcess {
  readonly storage: Storage
  /** Adds a person who can sign in. */
  addPerson(credentials: { email: string; password: string }): Promise<void>
}

/**
 * A node as `holdfast serve` starts it, for the measurements of `token/`. Clients, accounts and
 * credentials are made by a server in this process, at a port that nobody uses.
 */
export async function startServingNode({
  databaseUrl,
  clientKeys,
  workers,
}: {
  databaseUrl: string
  clientKeys: ClientKeys
  workers: number
}): Promise<ServingNode> {
  await using opened = new AsyncDisposableStack()
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-bench-'))
  opened.defer(() => rm(folder, { recursive: true, force: true }))
  const port = await freePort()
  const issuer = `http://127.0.0.1:${port}`
  const operators = `127.0.0.1:${await freePort()}`
  const env = {
    DATABASE_URL: databaseUrl,
    HOLDFAST_AUTHORIZE_LIMIT: '999999',
    HOLDFAST_CLIENT_CERT_FORMAT: 'rfc9440',
    HOLDFAST_DATA: folder,
    HOLDFAST_DEVICE_FLOW: 'on',
    HOLDFAST_ISSUER: issuer,
    HOLDFAST_LONGEST_WAIT_MS: '60000',
    HOLDFAST_METRICS: operators,
    HOLDFAST_PORT: String(port),
    HOLDFAST_SECRET: 'the secret of this benchmark, and of nothing else',
    HOLDFAST_TLS: 'off',
    HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
    HOLDFAST_WORKERS: String(workers),
  }
  const config = parseConfig({
    ...env,
    HOLDFAST_METRICS: undefined,
    HOLDFAST_PORT: String(await freePort()),
  })
  const storage = opened.use(await openStorage({ ...config, onError: () => {} }))
  const filling = opened.use(await startServer(config, storage, createLog('silent')))
  const accounts = createAccounts({ store: storage.accounts })
  await storage.accounts.insert(
    { id: accountId, email: 'ada@example.com', disabled: false, createdAt: new Date() },
    'no password',
  )
  await storage.resourceServers.insert({ identifier: api, name: null, scopes: ['read'] })
  const registered = { table: storage.clients, validator: filling.provider }
  const secrets: Record<string, string> = {}
  for (const client of clients) {
    const made = await registerClient(clientMetadata(client, clientKeys), registered)
    secrets[made.client_id] = made.client_secret ?? ''
  }
  const node = await serve({ cwd: folder, env })
  opened.defer(async () => void (await node.end('SIGTERM')))
  const open = opened.move()
  return {
    peer: 'holdfast',
    issuer,
    secrets,
    storage,
    async addPerson(credentials) {
      await accounts.add(credentials)
    },
    async usage() {
      const text = await (await fetch(`http://${operators}/metrics`)).text()
      const read = (name: string) => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
      return {
        cpu: read('process_cpu_seconds_total') * 1e6,
        statements: 0,
        peakMemory: read('process_resident_memory_bytes'),
      }
    },
    makeCredentials: (order) => makeCredentials(filling.provider, order),
    takeStatements: () => Promise.reject(new Error('it has several processes')),
    startProfile: () => Promise.reject(new Error('it has several processes')),
    profile: () => Promise.reject(new Error('it has several processes')),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}
