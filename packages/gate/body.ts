/** Reads bodies that are signed before they are sent on, within bounds for each and for all. */
import type { InboundRequest } from './exchange.ts'
import type { Body } from './forward.ts'
import { valuesOf } from './headers.ts'
import { Refusal } from './refusal.ts'

/** What all bodies together may take of memory. */
export class BodyBudget {
  readonly #limitBytes: number
  #usedBytes = 0

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  /** Takes so many bytes. @throws {@link Refusal} `busy` */
  take(bytes: number): void {
    if (this.#usedBytes + bytes > this.#limitBytes) throw new Refusal('busy')
    this.#usedBytes += bytes
  }

  /** Gives them back. */
  give(bytes: number): void {
    this.#usedBytes -= bytes
  }
}

/** The length that a request announces: undefined for chunks, 0 for no body. */
export function announcedLength(fields: readonly string[]): number | undefined {
  const [length] = valuesOf(fields, 'content-length')
  if (length !== undefined) return Number(length)
  return valuesOf(fields, 'transfer-encoding').length > 0 ? undefined : 0
}

/**
 * Reads a body of up to `limitBytes`. A longer one is refused or, with `larger: 'pass'`, returned as a
 * stream that has begun. The caller holds a share of the budget of `limitBytes` at most.
 *
 * @throws {@link Refusal} `body_too_large`, `body_malformed`
 */
export async function readBody(
  request: InboundRequest,
  fields: readonly string[],
  { limitBytes, larger }: { limitBytes: number; larger: 'refuse' | 'pass' },
): Promise<Body> {
  const length = announcedLength(fields)
  if (length === 0) return { kind: 'none' }
  if (length !== undefined && length > limitBytes) return longer([], length, larger)
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
      chunks.push(chunk)
      bytes += chunk.length
      if (bytes > limitBytes) return longer(chunks, length, larger)
    }
  } catch (cause) {
    throw cause instanceof Refusal ? cause : new Refusal('body_malformed', { cause })
  }
  return { kind: 'read', bytes: Buffer.concat(chunks) }
}

function longer(
  begun: readonly Buffer[],
  length: number | undefined,
  larger: 'refuse' | 'pass',
): Body {
  if (larger === 'refuse') throw new Refusal('body_too_large')
  return { kind: 'stream', begun: Buffer.concat(begun), length }
}
