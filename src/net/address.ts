import { isIP, isIPv4, isIPv6, SocketAddress } from 'node:net'

/**
 * The one form of an IP address that limits, logs and lists compare, or undefined for a text that
 * is no address. Ports (`192.0.2.7:80`, `[2001:db8::1]:80`), brackets and zone ids are removed, an
 * IPv4-mapped IPv6 address becomes the IPv4 address, and IPv6 is written as RFC 5952 says.
 */
export function canonicalAddress(text: string): string | undefined {
  if (isIPv4(text)) return text
  const host = withoutPort(text.trim())
  const version = isIP(host)
  if (version === 0) return undefined
  if (version === 4) return host
  // A zone id is a name of this machine's own.
  const [plain = ''] = host.split('%')
  const { address } = new SocketAddress({ address: plain, family: 'ipv6' })
  return address.replace(/^::ffff:(?=\d+\.)/, '')
}

function withoutPort(text: string): string {
  const bracketed = /^\[([^\]]*)\](?::\d{1,5})?$/.exec(text)
  if (bracketed) return isIPv6(bracketed[1] ?? '') ? (bracketed[1] ?? '') : ''
  return /^([\d.]+):\d{1,5}$/.exec(text)?.[1] ?? text
}
