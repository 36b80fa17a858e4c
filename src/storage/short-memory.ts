/** Milliseconds for which a node may answer with what it last read of operators' tables. */
const lifetime = 3000

/** Entries; when there are more, all are forgotten. */
const limit = 1000

export interface ShortMemoryOptions {
  /** Milliseconds that never go back: a clock that is set must keep nothing alive. */
  readonly now?: () => number
}

/**
 * Remembers for a few seconds what was found: for what operators change and every request needs.
 * What one node removes another may still find until then. What was not found is not remembered,
 * so that strangers cannot fill the memory and new things are there at once.
 */
export function createShortMemory<T>(
  find: (key: string) => Promise<T | undefined>,
  { now = () => performance.now() }: ShortMemoryOptions = {},
) {
  const known = new Map<string, { value: T; until: number }>()
  let forgotten = 0
  return {
    async find(key: string): Promise<T | undefined> {
      const asked = now()
      const remembered = known.get(key)
      if (remembered && asked < remembered.until) return remembered.value
      known.delete(key)
      const before = forgotten
      const value = await find(key)
      // What was forgotten meanwhile may have been read before it was changed.
      if (value === undefined || forgotten !== before) return value
      if (known.size >= limit) known.clear()
      known.set(key, { value, until: asked + lifetime })
      return value
    },
    forget(key: string): void {
      known.delete(key)
      forgotten += 1
    },
  }
}
