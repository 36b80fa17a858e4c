import { isOfThisMachine } from '../net/this-machine.ts'

/** Where the person goes next, named so that it can be compared with what they expected. */
export function redirectWords(redirectUri: string): string {
  const { protocol, hostname, host } = new URL(redirectUri)
  if (protocol !== 'https:' && protocol !== 'http:') return `an app on this device (${protocol})`
  if (isOfThisMachine(hostname)) return `an app on this device (${host})`
  return host
}
