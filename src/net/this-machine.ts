import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/**
 * Whether the hostname of a WHATWG URL leads to the machine that follows it, in any spelling: names
 * below localhost, 127.0.0.0/8, ::1, the unspecified addresses, and those mapped to IPv6.
 */
export function isOfThisMachine(hostname: string): boolean {
  const host = hostname.toLowerCase().replace(/^\[|\]$|\.$/g, '')
  if (!isIP(host)) return host === 'localhost' || host.endsWith('.localhost')
  return ['loopback', 'unspecified'].includes(ipaddr.process(host).range())
}
