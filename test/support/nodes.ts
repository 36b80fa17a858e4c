import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseConfig } from '../../src/config/config.ts'
import { developmentCertificate } from '../../src/http/development-authority.ts'
import { freePort } from '../../src/net/free-port.ts'
import { createLog } from '../../src/observability/log.ts'
import { startServer } from '../../src/server.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { startTestServer, type TestServer } from './server.ts'

/** Nodes of one identity provider behind one address. */
export interface Nodes extends AsyncDisposable {
  readonly server: TestServer
  readonly port: number
  readonly authorityFile: string
  /** Starts another node on the same database; the first gets no connection any more. */
  replaceNode(): Promise<void>
}

export async function startNodes(
  environment: Record<string, string>,
  { path: issuerPath = '' }: { path?: string } = {},
): Promise<Nodes> {
  await using opened = new AsyncDisposableStack()
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-nodes-'))
  opened.defer(() => rm(folder, { recursive: true, force: true }))

  let target = await freePort()
  const front = createServer((client) => {
    const node = connect(target, '127.0.0.1')
    client.pipe(node).pipe(client)
    // Either side may hang up first; browsers do so all the time.
    client.on('error', () => node.destroy())
    node.on('error', () => client.destroy())
    client.on('close', () => node.destroy())
    sockets.add(client)
  })
  const sockets = new Set<{ destroy(): unknown }>()
  front.listen(0, '127.0.0.1')
  await once(front, 'listening')
  const { port } = front.address() as AddressInfo
  const files = { cert: path.join(folder, 'cert.pem'), key: path.join(folder, 'key.pem') }
  const { cert, key, authorityFile } = await developmentCertificate(folder, [])
  await Promise.all([writeFile(files.cert, cert), writeFile(files.key, key)])
  const shared = {
    ...environment,
    HOLDFAST_TLS: 'on',
    HOLDFAST_TLS_CERT_FILE: files.cert,
    HOLDFAST_TLS_KEY_FILE: files.key,
    HOLDFAST_ISSUER: `https://localhost:${port}${issuerPath}`,
    HOLDFAST_DATA: folder,
  }
  const server = opened.use(await startTestServer({ ...shared, HOLDFAST_PORT: String(target) }))
  opened.defer(async () => {
    front.close()
    for (const socket of sockets) socket.destroy()
  })
  const open = opened.move()
  return {
    server,
    port,
    authorityFile,
    async replaceNode() {
      const next = await freePort()
      const config = parseConfig({
        ...shared,
        HOLDFAST_PORT: String(next),
        DATABASE_URL: server.databaseUrl,
      })
      const storage = open.use(await openStorage({ ...config, onError: () => {} }))
      open.use(await startServer(config, storage, createLog('silent')))
      target = next
      for (const socket of sockets) socket.destroy()
    },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}
