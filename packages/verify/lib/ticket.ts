import { createHmac, createSecretKey, randomBytes as nodeRandomBytes } from 'node:crypto'
import { constantTimeEqual } from './equal.ts'

/**
 * A value that tells when it was made and that only holders of the key can have made, for one
 * purpose: what else would need a row in a table for each of many visitors needs none.
 */
export function makeTicket(
  key: Uint8Array,
  purpose: readonly string[],
  now: number,
  randomBytes: (size: number) => Uint8Array = nodeRandomBytes,
): string {
  const body = `${now}.${Buffer.from(randomBytes(16)).toString('base64url')}`
  return `${body}.${authenticate(key, purpose, body)}`
}

/** When a ticket for this purpose was made, or `undefined` for anything else. */
export function readTicket(
  key: Uint8Array,
  purpose: readonly string[],
  ticket: string,
): number | undefined {
  const end = ticket.lastIndexOf('.')
  const body = ticket.slice(0, end)
  if (!constantTimeEqual(ticket.slice(end + 1), authenticate(key, purpose, body))) return undefined
  return Number.parseInt(body, 10)
}

/** Tickets by secrets that can change in a running process. */
export interface Tickets {
  make(...purpose: string[]): string
  /** When a ticket was made, in milliseconds since the epoch; `undefined` for anything else. */
  madeAt(purpose: readonly string[], ticket: string): number | undefined
  isCurrent(purpose: readonly string[], ticket: string, lifetimeS: number): boolean
}

/**
 * @param secret at least 32 bytes, or a function that gives the secrets of the moment: the first one
 *   makes tickets, the others are still accepted.
 * @param now milliseconds since the epoch.
 * @throws TypeError for a secret that is too short.
 */
export function createTickets(
  secret: Uint8Array | (() => readonly Uint8Array[]),
  now: () => number,
): Tickets {
  const secrets = () => checkSecrets(typeof secret === 'function' ? secret() : [secret])
  secrets()
  const madeAt = (purpose: readonly string[], ticket: string) =>
    secrets()
      .map((each) => readTicket(each, purpose, ticket))
      .find((found) => found !== undefined)
  return {
    make: (...purpose) => makeTicket(secrets()[0], purpose, now()),
    madeAt,
    isCurrent(purpose, ticket, lifetimeS) {
      const found = madeAt(purpose, ticket)
      return found !== undefined && now() - found < lifetimeS * 1000
    },
  }
}

function checkSecrets(secrets: readonly Uint8Array[]): readonly [Uint8Array, ...Uint8Array[]] {
  const [first, ...others] = secrets
  if (first === undefined || secrets.some(({ length }) => length < 32)) {
    throw new TypeError('secret must have at least 32 bytes')
  }
  return [first, ...others]
}

function authenticate(key: Uint8Array, purpose: readonly string[], body: string): string {
  // As JSON, no two lists of texts are the same text.
  return createHmac('sha256', createSecretKey(key))
    .update(JSON.stringify([...purpose, body]))
    .digest('base64url')
}
