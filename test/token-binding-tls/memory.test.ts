import https from 'node:https'
import anyTest from 'ava'
import { equip } from '../../packages/token-binding-tls/index.ts'
import { waitingConnections } from '../../packages/token-binding-tls/native.ts'
import { runMixedConnections } from './mixed-connections.ts'
import { certificate, echo, listen, skipped } from './support.ts'

const test = skipped ? anyTest.serial.skip : anyTest.serial

for (const tls13Draft of [false, true]) {
  const version = tls13Draft ? 'TLS 1.3' : 'TLS 1.2'
  test(`keeps nothing of 400 good and aborted connections over ${version}`, async (t) => {
    const server = equip(() => https.createServer(certificate, echo), { tls13Draft })
    const port = await listen(t, server)
    const options = { ca: certificate.cert, tls13Draft }
    t.like(await runMixedConnections(port, 400, options), { good: 200, aborted: 200, wrong: 0 })

    const connections = () =>
      new Promise<number>((resolve) => server.getConnections((_error, count) => resolve(count)))
    while ((await connections()) > 0 || waitingConnections() > 0) {
      await new Promise((resolve) => setImmediate(resolve))
    }
    t.is(waitingConnections(), 0)
  })
}
