import test from 'ava'
import { trustedPeers } from '../../src/net/trusted-peers.ts'

const isTrusted = trustedPeers(['10.1.0.0/16', '192.0.2.7', 'fd00::/8', '2001:db8::1'])

test('trusts addresses inside the networks', (t) => {
  for (const address of ['10.1.2.3', '192.0.2.7', 'fd12::3', '2001:db8::1', '::ffff:10.1.2.3']) {
    t.true(isTrusted(address), address)
  }
})

test('trusts nobody else', (t) => {
  for (const address of ['10.2.0.1', '192.0.2.8', 'fe80::1', '2001:db8::2', '::ffff:10.2.0.1']) {
    t.false(isTrusted(address), address)
  }
})

test('trusts no peer without an address', (t) => {
  t.false(isTrusted(undefined))
  t.false(isTrusted(''))
  t.false(isTrusted('proxy.internal'))
})

test('trusts nobody where nobody is named', (t) => {
  t.false(trustedPeers([])('127.0.0.1'))
})

test('names what is no network', (t) => {
  for (const network of ['', 'proxy', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '10.0.0.0/-1']) {
    const error = t.throws(() => trustedPeers([network]), { instanceOf: TypeError })
    t.true(error.message.includes(`"${network}"`))
  }
})
