import { isIPv6 } from 'node:net'
import { canonicalAddress } from './address.ts'

/**
 * What one subscriber holds: an IPv4 address, or the 64 bits that a provider gives out in IPv6. A
 * text that is no address is a network of its own.
 */
export function networkOf(address: string): string {
  return prefixOf(canonicalAddress(address) ?? address, 64)
}

/**
 * The networks that an address counts for: its own, and for IPv6 the /48 around it, of which one
 * subscriber may hold 65,536 of the smaller ones.
 */
export function networksOf(address: string): { near: string; wide: string | undefined } {
  const canonical = canonicalAddress(address) ?? address
  const wide = isIPv6Text(canonical) ? prefixOf(canonical, 48) : undefined
  return { near: prefixOf(canonical, 64), wide }
}

/** Every request asks, and mostly about IPv4: the expression for IPv6 is long. */
const isIPv6Text = (text: string) => text.includes(':') && isIPv6(text)

/**
 * Where an address is, as far as a person needs it to tell places apart: 24 bits of IPv4, or 48 of
 * IPv6. Undefined for a text that is no address.
 */
export function networkPrefix(address: string): string | undefined {
  const canonical = canonicalAddress(address)
  if (canonical === undefined) return undefined
  if (isIPv6Text(canonical)) return prefixOf(canonical, 48)
  return `${canonical.split('.').slice(0, 3).join('.')}.0/24`
}

function prefixOf(canonical: string, bits: 48 | 64): string {
  if (!isIPv6Text(canonical)) return canonical
  const [head = '', tail = ''] = canonical.split('::')
  const [first, last] = [head, tail].map((part) => part.split(':').filter(Boolean)) as [
    string[],
    string[],
  ]
  const zeros = Array<string>(8 - first.length - last.length).fill('0')
  const groups = [...first, ...zeros, ...last].slice(0, bits / 16)
  return `${groups.join(':')}::/${bits}`
}
