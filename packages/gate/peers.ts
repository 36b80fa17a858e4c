import { BlockList, isIP } from 'node:net'

/** An address of the system, in the one form that is compared: an IPv4 peer of an IPv6 socket is IPv4. */
export function canonicalAddress(text: string): string | undefined {
  const address = text.replace(/^::ffff:(?=\d+\.)/i, '')
  return isIP(address) === 0 ? undefined : address
}

/** What one subscriber holds: an IPv4 address, or the first 64 bits of one of IPv6. */
export function networkOf(address: string): string {
  if (isIP(address) !== 6) return address
  const [head = '', tail = ''] = address.toLowerCase().replace(/%.*/, '').split('::')
  const groupsOf = (text: string) => text.split(':').filter(Boolean)
  const [first, last] = [groupsOf(head), groupsOf(tail)]
  const zeros = Array<string>(Math.max(0, 8 - first.length - last.length)).fill('0')
  const groups = [...first, ...zeros, ...last].slice(0, 4)
  return groups.map((group) => Number.parseInt(group, 16).toString(16)).join(':')
}

/** Answers that are kept. */
const mostKnown = 1000

/** Makes the test whether a peer is one of the networks; these were checked with the configuration. */
export function peersOf(networks: readonly string[]): (address: string | undefined) => boolean {
  const list = new BlockList()
  for (const network of networks) {
    const [address = '', bits] = network.split('/')
    const family = isIP(address) === 4 ? 'ipv4' : 'ipv6'
    list.addSubnet(address, Number(bits ?? (family === 'ipv4' ? 32 : 128)), family)
  }
  // Each request asks several times, and proxies have few addresses.
  const known = new Map<string, boolean>()
  return (text = '') => {
    const before = known.get(text)
    if (before !== undefined) return before
    const address = canonicalAddress(text)
    const isIn = address !== undefined && list.check(address, isIP(address) === 4 ? 'ipv4' : 'ipv6')
    if (known.size >= mostKnown) known.clear()
    known.set(text, isIn)
    return isIn
  }
}
