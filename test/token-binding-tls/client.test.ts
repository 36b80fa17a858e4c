import { once } from 'node:events'
import net, { type AddressInfo } from 'node:net'
import anyTest, { type ExecutionContext } from 'ava'
import { TokenBindingAgent } from '../../packages/token-binding-tls/index.ts'
import { extension, type FirstAnswer, readFirstAnswer, serverHello } from './raw-hello.ts'
import { fetch, skipped } from './support.ts'

const test = skipped ? anyTest.skip : anyTest

/*
 * RFC 8472 section 4: what a client does with an answer that it must not take. The server here is
 * made by hand: it sends a ServerHello and reads what the client says to it.
 */

interface Answer {
  readonly tokenBinding?: string
  readonly renegotiationInfo?: boolean
}

async function alertFor(t: ExecutionContext, answer: Answer): Promise<FirstAnswer | 'nothing'> {
  const { tokenBinding, renegotiationInfo = true } = answer
  const extensions: [number, Buffer][] = [[extension.extendedMasterSecret, Buffer.alloc(0)]]
  if (renegotiationInfo) extensions.push([extension.renegotiationInfo, Buffer.of(0)])
  if (tokenBinding) extensions.push([extension.tokenBinding, Buffer.from(tokenBinding, 'hex')])

  const { promise, resolve } = Promise.withResolvers<FirstAnswer | 'nothing'>()
  const server = net.createServer(async (socket) => {
    socket.on('error', () => {})
    await once(socket, 'data')
    socket.write(serverHello(extensions))
    // A client that takes the answer waits for the rest of the handshake, which does not come.
    socket.end()
    readFirstAnswer(socket).then(resolve, () => resolve('nothing'))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const agent = new TokenBindingAgent({ keyParameters: ['ecdsap256', 'rsa2048_pss'] })
  t.teardown(() => {
    agent.destroy()
    server.close()
  })
  await t.throwsAsync(fetch(`https://localhost:${port}/`, { agent }))
  return promise
}

const unsupportedExtension = { alert: 110 }
const decodeError = { alert: 50 }

test('continues with an answer of version 1.0 and one identifier that was offered', async (t) => {
  t.is(await alertFor(t, { tokenBinding: '01000102' }), 'nothing')
  t.is(await alertFor(t, { tokenBinding: '01000101' }), 'nothing')
})

test('continues without Token Binding where the server has a lower version', async (t) => {
  t.is(await alertFor(t, { tokenBinding: '000d0102' }), 'nothing')
})

test('refuses a version higher than it offered', async (t) => {
  t.deepEqual(await alertFor(t, { tokenBinding: '01010102' }), unsupportedExtension)
  t.deepEqual(await alertFor(t, { tokenBinding: '02000102' }), unsupportedExtension)
})

test('refuses more than one identifier, and one that it did not offer', async (t) => {
  t.deepEqual(await alertFor(t, { tokenBinding: '0100020201' }), unsupportedExtension)
  t.deepEqual(await alertFor(t, { tokenBinding: '01000100' }), unsupportedExtension)
  t.deepEqual(await alertFor(t, { tokenBinding: '0100014d' }), unsupportedExtension)
})

test('refuses an answer without renegotiation_info', async (t) => {
  const answer = await alertFor(t, { tokenBinding: '01000102', renegotiationInfo: false })
  t.deepEqual(answer, unsupportedExtension)
})

test('refuses a malformed answer', async (t) => {
  for (const tokenBinding of ['01', '010000', '01000202', '0100010202']) {
    t.deepEqual(await alertFor(t, { tokenBinding }), decodeError)
  }
})
