import { BlockList, isIP } from 'node:net'
import { canonicalAddress } from './address.ts'

/** Whether the address of a TCP peer is one of those that the operator named. */
export type PeerTest = (address: string | undefined) => boolean

/**
 * Reads addresses and networks in CIDR form, such as `10.0.0.0/8`, `192.0.2.7` and `fd00::/8`. An
 * IPv4 peer that the system writes as `::ffff:192.0.2.7` is the same peer. A peer without an
 * address, such as one on a Unix socket, is not trusted.
 *
 * @throws {TypeError} Naming what is neither an address nor a network.
 */
export function trustedPeers(networks: readonly string[]): PeerTest {
  const list = new BlockList()
  for (const network of networks) addNetwork(list, network)
  /** The peers that were asked about, by what the system writes: every request asks several times. */
  const known = new Map<string, boolean>()
  return (text = '') => {
    const remembered = known.get(text)
    if (remembered !== undefined) return remembered
    const address = canonicalAddress(text)
    const isTrusted = address !== undefined && list.check(address, family(isIP(address)))
    if (known.size >= mostKnown) known.clear()
    known.set(text, isTrusted)
    return isTrusted
  }
}

/** Peers; when there are more, all are forgotten. */
const mostKnown = 1000

function addNetwork(list: BlockList, network: string): void {
  const [address = '', prefix, ...rest] = network.split('/')
  const version = isIP(address)
  const bits = version === 4 ? 32 : 128
  const length = prefix === undefined ? bits : Number(prefix)
  const isPrefix = prefix === undefined || (/^\d{1,3}$/.test(prefix) && length <= bits)
  if (version === 0 || !isPrefix || rest.length > 0) {
    throw new TypeError(`"${network}" is neither an IP address nor a network such as 10.0.0.0/8`)
  }
  list.addSubnet(address, length, family(version))
}

function family(version: number): 'ipv4' | 'ipv6' {
  return version === 4 ? 'ipv4' : 'ipv6'
}
