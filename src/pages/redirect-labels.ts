import { isOfThisMachine } from '../net/this-machine.ts'
import type { Message } from './messages.ts'

/** Where the browser is sent next, so that people can compare it with what they expected. */
export function redirectLabel(redirectUri: string): Message | string {
  const { protocol, hostname, host } = new URL(redirectUri)
  if (protocol !== 'https:' && protocol !== 'http:') return onThisDevice(protocol)
  return isOfThisMachine(hostname) ? onThisDevice(host) : host
}

const onThisDevice = (address: string): Message => ({
  key: 'client.on_this_device',
  values: { address },
})
