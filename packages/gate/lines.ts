/** Audit lines: one of JSON for each event that an operator may have to look up, bounded by the minute. */
import type { GateEvent } from './events.ts'

/** Lines of each kind in a minute; what strangers cause of one kind takes no room from another. */
const mostLines = 600

/** Every line has these, where the event knows them, by these names and in this order. */
const canonical = ['application', 'route', 'requestId', 'sub', 'session', 'jkt'] as const

/**
 * Makes a listener that writes events as lines; accepted and forwarded requests make none. How many
 * were left out of a kind is written with the next one of it in a later minute.
 */
export function createLines(
  write: (text: string) => void,
  now: () => number = Date.now,
): (event: GateEvent) => void {
  const kinds = new Map<string, { minute: number; count: number }>()
  return (event) => {
    if (event.type === 'accepted' || event.type === 'forwarded') return
    const { type } = event
    const minute = Math.floor(now() / 60_000)
    const known = kinds.get(type)
    const count = known?.minute === minute ? known.count + 1 : 1
    kinds.set(type, { minute, count })
    if (count > mostLines) return
    const left = known === undefined || count > 1 ? 0 : known.count - mostLines
    const time = new Date(now()).toISOString()
    if (left > 0)
      write(`${JSON.stringify({ time, type: 'lines_left_out', of: type, count: left })}\n`)
    write(`${JSON.stringify({ time, ...lineOf(event) }, plain)}\n`)
  }
}

function lineOf({ type, ...event }: GateEvent): Record<string, unknown> {
  const { code, reason = code, ...rest } = event as Record<string, unknown>
  const known = Object.fromEntries(canonical.map((name) => [name, rest[name]]))
  return { type, ...known, reason, ...rest }
}

const plain = (_name: string, value: unknown) => (value instanceof Error ? value.message : value)
