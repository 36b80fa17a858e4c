import { domainToASCII } from 'node:url'

/** The one form of a domain: lower case, and ASCII (IDNA). Undefined for text that can be no domain. */
export function canonicalDomain(typed: string): string | undefined {
  // domainToASCII reads a domain as a URL does, up to what ends a host there, and decodes %.
  if (/[\s\p{C}/?#\\:%]/u.test(typed)) return undefined
  return domainToASCII(typed.toLowerCase().normalize('NFC')) || undefined
}
