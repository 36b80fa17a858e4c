import { BlockList, isIP } from 'node:net'

/** An address of the system, in the one form that is compared: an IPv4 peer of an IPv6 socket is IPv4. */
export function canonicalAddress(text: string): string | undefined {
  const address = text.replace(/^::ffff:(?=\d+\.)/i, '')
  return isIP(address) === 0 ? undefined : address
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
