/** Says whether there is room for one more of a kind. */
export interface LineBudget {
  allows(kind: string): boolean
}

const minuteMs = 60_000

/**
 * Room for the first `perMinute` of each kind in a minute. How many more there were is reported
 * when the next one of that kind comes in a later minute.
 *
 * Kinds must be of a closed set.
 */
export function createLineBudget({
  perMinute,
  onMore = () => {},
  now = Date.now,
}: {
  perMinute: number
  onMore?: (kind: string, count: number) => void
  now?: () => number
}): LineBudget {
  const kinds = new Map<string, { minute: number; count: number }>()
  return {
    allows(kind) {
      const minute = Math.floor(now() / minuteMs)
      const known = kinds.get(kind)
      if (known?.minute === minute) {
        known.count += 1
        return known.count <= perMinute
      }
      kinds.set(kind, { minute, count: 1 })
      if (known && known.count > perMinute) onMore(kind, known.count - perMinute)
      return true
    },
  }
}
