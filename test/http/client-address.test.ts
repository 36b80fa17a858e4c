import test from 'ava'
import { clientAddress, noteClientAddress } from '../../src/http/client-address.ts'
import { trustedPeers } from '../../src/net/trusted-peers.ts'

const isTrusted = trustedPeers(['10.0.0.0/8', '::1'])

const from = (remoteAddress: string, forwarded?: string) =>
  clientAddress(
    { socket: { remoteAddress }, headers: forwarded ? { 'x-forwarded-for': forwarded } : {} },
    isTrusted,
  )

test('is the peer, whatever it says of itself', (t) => {
  t.is(from('192.0.2.7', '198.51.100.1'), '192.0.2.7')
})

test('is what a trusted proxy says', (t) => {
  t.is(from('10.0.0.1', '198.51.100.1'), '198.51.100.1')
})

test('is the last one that is no proxy: those before it were written by the client', (t) => {
  t.is(from('10.0.0.1', '203.0.113.1, 198.51.100.1, 10.0.0.2'), '198.51.100.1')
})

test('is the proxy when it names nobody, or nothing that is an address', (t) => {
  t.is(from('10.0.0.1'), '10.0.0.1')
  t.is(from('10.0.0.1', 'unknown'), '10.0.0.1')
  t.is(from('10.0.0.1', '10.0.0.2'), '10.0.0.1')
})

for (const [written, address] of [
  ['198.51.100.1:4711', '198.51.100.1'],
  ['[2001:db8::1]:4711', '2001:db8::1'],
  ['[2001:db8::1]', '2001:db8::1'],
  ['2001:0DB8:0::0:1', '2001:db8::1'],
  ['::ffff:198.51.100.1', '198.51.100.1'],
  ['[::ffff:c633:6401]:80', '198.51.100.1'],
  ['fe80::1%eth0', 'fe80::1'],
] as const) {
  test(`reads ${written} as ${address}`, (t) => t.is(from('10.0.0.1', written), address))
}

test('passes over proxies that are written with their ports', (t) => {
  t.is(from('10.0.0.1', '198.51.100.1:99, 10.0.0.2:443, [::1]:443'), '198.51.100.1')
})

test('believes nothing that only looks like an address', (t) => {
  for (const text of ['[10.9.9.9]:80', '198.51.100.1:', '1.2.3.4:5:6', '2001:db8::1]:80', '_x']) {
    t.is(from('10.0.0.1', text), '10.0.0.1', text)
  }
})

test('an IPv4 address is spelt one way', (t) => {
  t.is(from('::ffff:192.0.2.7'), '192.0.2.7')
})

test('reports the first peer that forwards and is not trusted, once', async (t) => {
  const told: string[] = []
  const middleware = noteClientAddress(isTrusted, { onFirstUntrusted: (peer) => told.push(peer) })
  const arrive = (remoteAddress: string, headers: Record<string, string> = {}) =>
    middleware({ req: { socket: { remoteAddress }, headers }, state: {} } as never, async () => {})
  await arrive('192.0.2.6')
  await arrive('10.0.0.1', { 'x-forwarded-for': '198.51.100.1' })
  t.deepEqual(told, [])
  await arrive('192.0.2.7', { forwarded: 'for=198.51.100.1' })
  await arrive('192.0.2.8', { 'x-forwarded-for': '198.51.100.1' })
  t.deepEqual(told, ['192.0.2.7'])
})
