import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { developmentCertificate } from '../../src/http/development-authority.ts'

export interface RelyingParty {
  /** Where every host name of the relying party is to be found. */
  address: string
  close(): Promise<void>
}

/**
 * An https site of any name. As many do, its /callback sends the person on to another of its
 * origins: https://app.example.
 */
export async function startRelyingParty(): Promise<RelyingParty> {
  const folder = await mkdtemp(`${tmpdir()}/holdfast-rp-`)
  const certificate = await developmentCertificate(folder, ['rp.example', 'app.example'])
  const server = createServer(certificate, (req, res) => {
    const { pathname, search } = new URL(req.url ?? '/', 'https://rp.example')
    if (pathname === '/callback') {
      res.writeHead(302, { location: `https://app.example/welcome${search}` }).end()
    } else {
      res
        .writeHead(200, { 'content-type': 'text/html' })
        .end(`<title>At the app</title>${req.method}`)
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
      await rm(folder, { recursive: true })
    },
  }
}
