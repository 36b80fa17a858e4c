import { isIPv6 } from 'node:net'

/** What one subscriber holds: an IPv4 address, or the 64 bits that a provider gives out in IPv6. */
export function networkOf(address: string): string {
  if (!isIPv6(address)) return address
  const [head = '', tail = ''] = address.split('%')[0]?.split('::') ?? []
  const groups = head.split(':').filter(Boolean)
  const missing = 8 - groups.length - tail.split(':').filter(Boolean).length
  const whole = address.includes('::')
    ? [...groups, ...Array<string>(missing).fill('0'), ...tail.split(':').filter(Boolean)]
    : groups
  return `${whole
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`
}
