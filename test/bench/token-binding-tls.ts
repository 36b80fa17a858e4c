import { once } from 'node:events'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { equip } from '../../packages/token-binding-tls/index.ts'
import { waitingConnections } from '../../packages/token-binding-tls/native.ts'
import { drawProgressOn, showProgress } from '../../src/commands/progress.ts'
import { runMixedConnections } from '../token-binding-tls/mixed-connections.ts'
import { certificate, echo } from '../token-binding-tls/support.ts'

/*
 * Memory after good and aborted connections, a tenth of them at a time: it must stop growing.
 *
 * npm run bench:token-binding-tls -- [--json] [--connections 10000] [--tls13]
 */

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    connections: { type: 'string', default: '10000' },
    tls13: { type: 'boolean', default: false },
  },
})
setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

const tls13Draft = values.tls13
const server = equip(() => https.createServer(certificate, echo), { tls13Draft })
server.on('tlsClientError', () => {})
server.listen(0, '127.0.0.1')
await once(server, 'listening')
const { port } = server.address() as AddressInfo

const steps = 10
const rows = []
drawProgressOn(values.json ? undefined : process.stderr)
const progress = showProgress()
for (let step = 1; step <= steps; step += 1) {
  progress.report(`${rows.length} of ${steps} parts of the connections`, rows.length, steps)
  const count = Number(values.connections) / steps
  const before = process.cpuUsage()
  const result = await runMixedConnections(port, count, { ca: certificate.cert, tls13Draft })
  const { user, system } = process.cpuUsage(before)
  collectGarbage()
  rows.push({
    connections: step * count,
    wrong: result.wrong,
    waiting: waitingConnections(),
    rssMegabytes: Number((process.memoryUsage.rss() / 2 ** 20).toFixed(1)),
    cpuMillisecondsEach: Number(((user + system) / 1000 / count).toFixed(2)),
  })
}
progress.rest()
server.close()

if (values.json) console.log(JSON.stringify({ rows }))
else console.table(rows)
