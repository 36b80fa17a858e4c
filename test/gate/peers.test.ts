import test from 'ava'
import { canonicalAddress, networkOf, peersOf } from '../../packages/gate/peers.ts'

test('knows a peer of IPv4 at a socket of IPv6, and no other', (t) => {
  const isProxy = peersOf(['10.0.0.0/8', '2001:db8::/32'])
  t.true(isProxy('10.1.2.3'))
  t.true(isProxy('::ffff:10.1.2.3'))
  t.true(isProxy('2001:db8::1'))
  t.false(isProxy('11.1.2.3'))
  t.false(isProxy('::ffff:11.1.2.3'))
  t.false(isProxy(undefined))
  t.is(canonicalAddress('::ffff:10.1.2.3'), '10.1.2.3')
  t.is(canonicalAddress('a proxy'), undefined)
})

test('counts an IPv4 address, and 64 bits of one of IPv6, as one network', (t) => {
  t.is(networkOf('10.1.2.3'), '10.1.2.3')
  t.is(networkOf('2001:db8:1:2:3:4:5:6'), networkOf('2001:0DB8:1:2::9'))
  t.not(networkOf('2001:db8:1:2::1'), networkOf('2001:db8:1:3::1'))
  t.is(networkOf('2001:db8::1'), '2001:db8:0:0')
})
