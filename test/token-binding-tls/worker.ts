import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { parentPort } from 'node:worker_threads'
import { equip } from '../../packages/token-binding-tls/index.ts'
import { certificate, echo } from './support.ts'

/** A server of its own in a worker thread; it tells its port. */
const server = equip(() => https.createServer(certificate, echo))
server.listen(0, '127.0.0.1', () => {
  parentPort?.postMessage({ port: (server.address() as AddressInfo).port, ca: certificate.cert })
})
