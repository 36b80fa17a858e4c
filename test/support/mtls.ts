import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import tls from 'node:tls'
import { freePort } from '../../src/net/free-port.ts'
import type { GuardedFetch } from '../../src/net/guarded-fetch.ts'
import { type Hooks, limitTestsAtOnce } from './at-once.ts'
import { certificateFetch } from './certificate-fetch.ts'
import { createAuthority, type TestAuthority, type TestCertificate } from './certificates.ts'
import { startTestServer, type TestServer } from './server.ts'

export interface MtlsServer {
  readonly server: TestServer
  /** The authority of `tls_client_auth` clients; `revoked` is on its list. */
  readonly root: TestAuthority
  readonly revoked: TestCertificate
  /** Where certificates are asked for. */
  readonly mtlsOrigin: string
  /** A folder for files of this test file. */
  readonly folder: string
  /** A `fetch` with a certificate, which trusts the server. */
  fetchWith(client: Pick<TestCertificate, 'cert' | 'key'>): typeof globalThis.fetch
}

/** A server over HTTPS with a port for certificates; the result is filled in when tests begin. */
export function useMtlsServer(
  test: Hooks,
  environment: Record<string, string> = {},
  guardedFetch?: GuardedFetch,
): MtlsServer {
  const started = {}
  const opened = new AsyncDisposableStack()
  limitTestsAtOnce(test)
  test.serial.before(async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-mtls-'))
    opened.defer(() => rm(folder, { recursive: true, force: true }))
    const root = await createAuthority('CN=Clients')
    const revoked = await root.issue({ subject: 'CN=service' })
    const files = { ca: path.join(folder, 'ca.pem'), crl: path.join(folder, 'crl.pem') }
    await writeFile(files.ca, root.cert)
    await writeFile(files.crl, await root.crl([revoked]))
    const port = await freePort()
    const server = opened.use(
      await startTestServer(
        {
          HOLDFAST_TLS: 'on',
          HOLDFAST_MTLS_PORT: String(port),
          HOLDFAST_CLIENT_CA_FILE: files.ca,
          HOLDFAST_CLIENT_CRL_FILE: files.crl,
          ...environment,
        },
        { guardedFetch },
      ),
    )
    const ca = await readFile(server.authorityFile ?? '', 'utf8')
    tls.setDefaultCACertificates([...tls.getCACertificates('default'), ca])
    Object.assign(started, {
      server,
      root,
      revoked,
      folder,
      mtlsOrigin: `https://localhost:${port}`,
      fetchWith: ({ cert, key }: TestCertificate) =>
        opened.use(certificateFetch({ cert, key, ca })),
    })
  })
  test.after.always('closes the server', () => opened.disposeAsync())
  return started as MtlsServer
}
