import test from 'ava'
import { networkOf, networksOf } from '../../src/net/network.ts'

for (const [address, network] of [
  ['192.0.2.7', '192.0.2.7'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:db8:1:2::6', '2001:db8:1:2::/64'],
  ['2001:0db8:0001:0002:ffff:ffff:ffff:ffff', '2001:db8:1:2::/64'],
  ['2001:db8::1', '2001:db8:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['::ffff:192.0.2.7', '192.0.2.7'],
  ['::ffff:c000:207', '192.0.2.7'],
  ['192.0.2.7:443', '192.0.2.7'],
  ['[2001:db8:1:2::6]:443', '2001:db8:1:2::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
] as const) {
  test(`${address} is of ${network}`, (t) => t.is(networkOf(address), network))
}

test('IPv6 counts for the /48 around it as well, and IPv4 for one network', (t) => {
  t.deepEqual(networksOf('2001:db8:1:2::6'), { near: '2001:db8:1:2::/64', wide: '2001:db8:1::/48' })
  t.deepEqual(networksOf('::ffff:192.0.2.7'), { near: '192.0.2.7', wide: undefined })
})
