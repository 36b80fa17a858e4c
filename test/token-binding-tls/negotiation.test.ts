import https from 'node:https'
import anyTest, { type ExecutionContext } from 'ava'
import { type EquipOptions, equip } from '../../packages/token-binding-tls/index.ts'
import { exchangeHello, extension, type HelloOptions } from './raw-hello.ts'
import { certificate, listen, skipped } from './support.ts'

const test = skipped ? anyTest.skip : anyTest

const offer = (hexadecimal: string) => ({ offer: Buffer.from(hexadecimal, 'hex') })
/** Of OpenSSL's headers; `node:crypto` does not name it. */
const noExtendedMasterSecret = 1

const good = offer('01000102')

const serve = (t: ExecutionContext, options?: EquipOptions, server?: https.ServerOptions) =>
  listen(
    t,
    equip(() => https.createServer({ ...certificate, ...server }), options),
  )

/** The extension_data in the ServerHello, `none`, or the alert. */
async function answerTo(port: number, options: HelloOptions): Promise<string> {
  const answer = await exchangeHello(port, options)
  if ('alert' in answer) return `alert ${answer.alert}`
  return answer.extensions.get(extension.tokenBinding) ?? 'none'
}

test('answers version 1.0 and one identifier, the first of the client that it knows', async (t) => {
  const port = await serve(t)
  t.is(await answerTo(port, good), '01000102')
  t.is(await answerTo(port, offer('0100020201')), '01000102')
  t.is(await answerTo(port, offer('010003000102')), '01000100')
  t.is(await answerTo(port, offer('0100024d01')), '01000101')
})

test('chooses only from the kinds of keys it was given', async (t) => {
  const port = await serve(t, { keyParameters: ['rsa2048_pss'] })
  t.is(await answerTo(port, offer('010003020001')), '01000101')
  t.is(await answerTo(port, good), 'none')
})

test('stays silent to a client that does not ask', async (t) => {
  t.is(await answerTo(await serve(t), {}), 'none')
})

test('stays silent where no kind of key is common', async (t) => {
  t.is(await answerTo(await serve(t), offer('0100014d')), 'none')
})

test('answers a later version with its own, and stays silent to drafts', async (t) => {
  const port = await serve(t)
  t.is(await answerTo(port, offer('02010102')), '01000102')
  t.is(await answerTo(port, offer('01050102')), '01000102')
  t.is(await answerTo(port, offer('000d0102')), 'none')
  t.is(await answerTo(port, offer('00120102')), 'none')
})

test('ends the handshake of a malformed offer with decode_error, and serves the next', async (t) => {
  const port = await serve(t)
  const decodeError = 'alert 50'
  for (const malformed of ['', '01', '0100', '010000', '01000202', '0100010201', '010001']) {
    t.is(await answerTo(port, offer(malformed)), decodeError, malformed)
  }
  t.is(await answerTo(port, offer(`0100ff${'4d'.repeat(254)}`)), decodeError)
  t.is(await answerTo(port, good), '01000102')
})

test('accepts the longest offer', async (t) => {
  t.is(await answerTo(await serve(t), offer(`0100ff${'4d'.repeat(254)}02`)), '01000102')
})

test('does not negotiate without the extended master secret', async (t) => {
  const port = await serve(t)
  t.is(await answerTo(port, { ...good, extendedMasterSecret: false }), 'none')

  const without = { secureOptions: noExtendedMasterSecret }
  t.is(await answerTo(await serve(t, {}, without), good), 'none')
})

test('does not negotiate without renegotiation_info, in either of its two forms', async (t) => {
  const port = await serve(t)
  t.is(await answerTo(port, { ...good, renegotiationInfo: 'none' }), 'none')
  t.is(await answerTo(port, { ...good, renegotiationInfo: 'scsv' }), '01000102')
})

test('keeps negotiating after its certificate was reloaded', async (t) => {
  const server = equip(() => https.createServer(certificate))
  const port = await listen(t, server)
  server.setSecureContext(certificate)
  t.is(await answerTo(port, good), '01000102')
})

test('a server that was not equipped stays silent', async (t) => {
  const port = await listen(t, https.createServer(certificate))
  t.is(await answerTo(port, good), 'none')
})
