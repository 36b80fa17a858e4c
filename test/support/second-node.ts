import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseConfig } from '../../src/config/config.ts'
import { freePort } from '../../src/net/free-port.ts'
import { createLog } from '../../src/observability/log.ts'
import { type RunningServer, startServer } from '../../src/server.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import type { TestServer } from './server.ts'

/** A node of an identity provider, by a way to it alone. */
export interface Node extends AsyncDisposable {
  readonly server: RunningServer
  /** Sends requests for the issuer to this node. */
  readonly fetch: typeof globalThis.fetch
}

/** Another node beside a server: the same issuer and database, a port of its own. */
export async function startSecondNode(
  { issuer, databaseUrl }: Pick<TestServer, 'issuer' | 'databaseUrl'>,
  environment: Record<string, string>,
): Promise<Node> {
  await using opened = new AsyncDisposableStack()
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-node-'))
  opened.defer(() => rm(folder, { recursive: true, force: true }))
  const port = await freePort()
  const config = parseConfig({
    HOLDFAST_TLS: 'off',
    HOLDFAST_REFUSAL_LIMIT: '100000',
    HOLDFAST_AUTHORIZE_LIMIT: '100000',
    HOLDFAST_PAR_LIMIT: '100000',
    HOLDFAST_DEVICE_PAGE_LIMIT: '100000',
    HOLDFAST_LOGIN_LIMIT: '100000',
    HOLDFAST_LONGEST_WAIT_MS: '60000',
    ...environment,
    HOLDFAST_ISSUER: issuer,
    HOLDFAST_PORT: String(port),
    HOLDFAST_DATA: folder,
    DATABASE_URL: databaseUrl,
  })
  const storage = opened.use(await openStorage({ ...config, onError: () => {} }))
  const server = opened.use(await startServer(config, storage, createLog('silent')))
  const open = opened.move()
  return {
    server,
    fetch: (input, init) => fetch(String(input).replace(issuer, `http://127.0.0.1:${port}`), init),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}
