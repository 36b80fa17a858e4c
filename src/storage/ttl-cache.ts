/** Milliseconds for which a node may answer with what it last read of operators' tables. */
const lifetime = 3000

/** Milliseconds after which an answer is read anew while it still serves. */
const renewal = 2000

/** Entries; when there are more, all are forgotten. */
const limit = 1000

export interface TtlCacheOptions {
  /** Milliseconds that never go back: a clock that is set must keep nothing alive. */
  readonly now?: () => number
}

/**
 * Remembers for a few seconds what was found: for what operators change and every request needs.
 * What one node removes another may still find until then. What was not found is not remembered,
 * so that strangers cannot fill the memory and new things are there at once.
 */
export function createTtlCache<T>(
  find: (key: string) => Promise<T | undefined>,
  { now = () => performance.now() }: TtlCacheOptions = {},
) {
  const known = new Map<string, { value: T; asked: number }>()
  /** Questions that are being answered: everyone who asks the same meanwhile gets that answer. */
  const asking = new Map<string, Promise<T | undefined>>()
  let forgotten = 0

  async function read(key: string): Promise<T | undefined> {
    const [asked, before] = [now(), forgotten]
    const value = await find(key)
    // What was forgotten meanwhile may have been read before it was changed.
    if (forgotten !== before) return value
    known.delete(key)
    if (value === undefined) return value
    if (known.size >= limit) known.clear()
    known.set(key, { value, asked })
    return value
  }

  function readOnce(key: string): Promise<T | undefined> {
    const answer = asking.get(key) ?? read(key)
    if (!asking.has(key)) {
      const end = () => {
        if (asking.get(key) === answer) asking.delete(key)
      }
      asking.set(key, answer)
      answer.then(end, end)
    }
    return answer
  }

  return {
    async find(key: string): Promise<T | undefined> {
      const remembered = known.get(key)
      const age = remembered ? now() - remembered.asked : lifetime
      if (!remembered || age >= lifetime) return await readOnce(key)
      // Read anew before it is too old, so that a busy node has no moment in which all wait. When
      // that fails, the next who asks after its end sees the error.
      if (age >= renewal) readOnce(key).catch(() => {})
      return remembered.value
    },
    invalidate(key: string): void {
      known.delete(key)
      asking.delete(key)
      forgotten += 1
    },
  }
}
