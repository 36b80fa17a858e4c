import { once } from 'node:events'
import { connect } from 'node:net'
import { TokenBindingAgent } from '../../packages/token-binding-tls/index.ts'
import { clientHello, exchangeHello } from './raw-hello.ts'
import { fetchProof } from './support.ts'

/*
 * Good connections among those that a server on the Internet also gets: cut off in the middle of a
 * hello, left after the answer, malformed, without an offer.
 */

const offer = Buffer.from('01000102', 'hex')

export interface Mixed {
  readonly good: number
  readonly aborted: number
  /** Good connections whose proof was missing or of another kind than was asked for. */
  readonly wrong: number
}

export async function runMixedConnections(
  port: number,
  count: number,
  { ca, tls13Draft = false }: { ca: string; tls13Draft?: boolean },
): Promise<Mixed> {
  const kinds = ['ecdsap256', 'rsa2048_pss'] as const
  const agents = kinds.map(
    (kind) => new TokenBindingAgent({ ca, keepAlive: false, keyParameters: [kind], tls13Draft }),
  )
  let [good, aborted, wrong] = [0, 0, 0]

  const connectOnce = async (turn: number) => {
    switch (turn % 8) {
      case 0:
        aborted += 1
        return cutOff(port, turn)
      case 1:
        aborted += 1
        return void (await exchangeHello(port, { offer }))
      case 2:
        aborted += 1
        return void (await exchangeHello(port, { offer: offer.subarray(0, turn % 4) }))
      case 3:
        aborted += 1
        return void (await exchangeHello(port, {}))
      default: {
        good += 1
        const agent = agents[turn % 2]
        const { proof } = await fetchProof(`https://localhost:${port}/`, { agent })
        if (proof?.provided.keyParameters !== kinds[turn % 2]) wrong += 1
      }
    }
  }

  const atOnce = 16
  for (let turn = 0; turn < count; turn += atOnce) {
    const length = Math.min(atOnce, count - turn)
    await Promise.all(Array.from({ length }, (_, index) => connectOnce(turn + index)))
  }
  for (const agent of agents) agent.destroy()
  return { good, aborted, wrong }
}

async function cutOff(port: number, turn: number): Promise<void> {
  const hello = clientHello({ offer })
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.end(hello.subarray(0, turn % hello.length))
  socket.resume()
  await once(socket, 'close')
}
