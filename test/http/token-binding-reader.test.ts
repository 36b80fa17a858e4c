import type { IncomingMessage } from 'node:http'
import test from 'ava'
import type { TokenBindingMode } from '../../src/config/token-binding-config.ts'
import { createTokenBindingReader } from '../../src/http/token-binding-reader.ts'
import { trustedPeers } from '../../src/net/trusted-peers.ts'
import { forwarded, newId } from '../support/token-binding.ts'

const proxy = '192.0.2.7'
const provided = newId()
const referred = newId()

function read(mode: TokenBindingMode, headers: Record<string, string>, remoteAddress = proxy) {
  const request = { socket: { remoteAddress }, rawHeaders: Object.entries(headers).flat() }
  const reader = createTokenBindingReader(mode, trustedPeers([proxy]))
  return reader(request as unknown as IncomingMessage)
}

test('reads what a trusted proxy has proven', (t) => {
  const proof = read('proxy', forwarded(provided, referred))
  t.deepEqual(proof, { provided, referred, other: [] })
})

test('reads nothing where a trusted proxy says nothing', (t) => {
  t.is(read('proxy', { accept: '*/*' }), undefined)
})

test('refuses the headers of a peer that is not trusted', (t) => {
  t.throws(() => read('proxy', forwarded(provided), '192.0.2.8'), { code: 'untrusted_peer' })
})

for (const mode of ['off', 'tls', 'tls13-draft'] as const) {
  test(`refuses forwarded headers, also of a trusted proxy, with ${mode}`, (t) => {
    t.throws(() => read(mode, forwarded(provided)), { code: 'untrusted_peer' })
  })
}

for (const mode of ['tls', 'tls13-draft'] as const) {
  test(`refuses a message on a connection that negotiated nothing, with ${mode}`, (t) => {
    t.throws(() => read(mode, { 'sec-token-binding': 'AIkAAgBB' }), { code: 'not_negotiated' })
  })
}

for (const mode of ['off', 'proxy'] as const) {
  test(`does not look at messages with ${mode}`, (t) => {
    t.is(read(mode, { 'sec-token-binding': 'AIkAAgBB' }), undefined)
  })
}
