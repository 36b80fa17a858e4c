import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

// Below the range from which systems give ports to connections that go out (RFC 6335 section 6
// has it from 49152, Linux from 32768): nobody is given ours between now and when it is used. And
// above 10080, the highest port that fetch and browsers refuse to connect to.
const lowest = 10_081
const highest = 32_767

// Of those who ask at the same moment, nobody listens yet.
const given = new Set<number>()

/** A port of loopback that nothing listens on, and that nobody else of this process was given. */
export async function freePort(): Promise<number> {
  for (;;) {
    const server = createServer()
    const port = randomInt(lowest, highest + 1)
    if (given.has(port)) continue
    given.add(port)
    server.listen(port, '127.0.0.1')
    try {
      await once(server, 'listening')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
      continue
    }
    server.close()
    await once(server, 'close')
    return port
  }
}
