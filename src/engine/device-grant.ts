import { createHmac } from 'node:crypto'
import { deviceGrant } from '../clients/grant-types.ts'
import type { ClientTable } from '../storage/client-table.ts'
import type { UserCodes } from '../storage/device-code-adapter.ts'

/** RFC 8628 section 3.2: seconds between two requests of a device, unless it is told otherwise. */
export const pollInterval = 5

/**
 * Section 6.1: eight of twenty letters are 34.5 bits, easy to type and never a word. A digest alone
 * would not hide them from a reader of the database, who can try them all: hence the key, which is
 * not there.
 *
 * @param keys the one to make digests with first, the same on every node.
 */
export function createUserCodes(keys: () => readonly Uint8Array[]): UserCodes {
  return {
    digest(userCode) {
      const [key] = keys()
      if (!key) throw new TypeError('keys: at least one')
      return digestOf(key, userCode)
    },
    candidates: (userCode) => keys().map((key) => digestOf(key, userCode)),
  }
}

// The engine takes away what separates the letters, but for one character that it calls a letter.
const digestOf = (key: Uint8Array, userCode: string) =>
  createHmac('sha256', key)
    .update(`holdfast user code\0${userCode.replaceAll('_', '')}`)
    .digest('base64url')

/** Clients as they are where the device flow is off: registered for it, they keep their other grants. */
export function withoutDeviceGrant(clients: Pick<ClientTable, 'find'>): Pick<ClientTable, 'find'> {
  return {
    async find(id) {
      const metadata = await clients.find(id)
      if (!metadata?.grant_types?.includes(deviceGrant)) return metadata
      const grant_types = metadata.grant_types.filter((type) => type !== deviceGrant)
      return { ...metadata, grant_types }
    },
  }
}
