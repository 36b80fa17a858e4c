/**
 * Counts that are kept in memory, of a node that is several processes. Each process tells the others
 * which tokens were taken of its buckets, so that a limit is one of the node: what a network takes
 * through one process, it has no more at any other, {@link pauseMs} and two messages later.
 */

/** Tokens that were taken, by the name of the limit and the key of the bucket. */
export type TakenTokens = ReadonlyMap<string, ReadonlyMap<string, number>>

export interface Siblings {
  /**
   * Joins the buckets of one limit.
   *
   * @param onTaken told of tokens that were taken of a bucket elsewhere.
   * @returns tells the others of a token that was taken here.
   */
  join(limit: string, onTaken: (key: string, count: number) => void): (key: string) => void
}

/** A process that has no siblings. */
export const alone: Siblings = { join: () => () => {} }

/** Milliseconds for which what was taken is gathered. */
const pauseMs = 20

/** Buckets of one limit in one message: a flood of many networks is no flood of bytes. */
const mostKeys = 2000

/**
 * @param send sends what was taken here to all others.
 * @returns what the buckets of this process join, and `hear` for what others have sent.
 */
export function createSiblings(
  send: (taken: TakenTokens) => void,
): Siblings & { hear(taken: TakenTokens): void } {
  const heard = new Map<string, (key: string, count: number) => void>()
  let taken = new Map<string, Map<string, number>>()

  function flush() {
    const told = taken
    taken = new Map()
    send(told)
  }

  function tell(limit: string, key: string) {
    if (taken.size === 0) setTimeout(flush, pauseMs).unref()
    const counts = taken.get(limit) ?? new Map<string, number>()
    taken.set(limit, counts)
    if (counts.size < mostKeys || counts.has(key)) counts.set(key, (counts.get(key) ?? 0) + 1)
  }

  return {
    join(limit, onTaken) {
      heard.set(limit, onTaken)
      return (key) => tell(limit, key)
    },
    hear(told) {
      for (const [limit, counts] of told) {
        for (const [key, count] of counts) heard.get(limit)?.(key, count)
      }
    },
  }
}
