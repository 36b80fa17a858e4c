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

function authenticate(key: Uint8Array, purpose: readonly string[], body: string): string {
  // As JSON, no two lists of texts are the same text.
  return createHmac('sha256', createSecretKey(key))
    .update(JSON.stringify([...purpose, body]))
    .digest('base64url')
}
