/** The work was not begun: too much of it is waiting, or has waited for too long. */
export class QueueFullError extends Error {
  override name = 'QueueFullError'
}

export interface BoundedQueueOptions {
  /** How much is in work at once. */
  readonly atOnce: number
  /** How much may wait. */
  readonly waiting: number
  /** For how long it may wait. */
  readonly patienceMs: number
}

export interface BoundedQueue {
  /**
   * Does a piece of work in its turn.
   *
   * @throws {@link QueueFullError}
   */
  run<T>(work: () => Promise<T>): Promise<T>
  /** Whether another piece of work would be refused at once. */
  isFull(): boolean
}

/** Work that takes a thread or a processor, of which only so much is done or waits at a time. */
export function createBoundedQueue({
  atOnce,
  waiting: mostWaiting,
  patienceMs,
}: BoundedQueueOptions): BoundedQueue {
  const waiting = new Set<() => void>()
  let running = 0

  const isFull = () => running >= atOnce && waiting.size >= mostWaiting

  function turn(): Promise<void> {
    if (running < atOnce) {
      running += 1
      return Promise.resolve()
    }
    return new Promise((resolve, reject) => {
      const begin = () => {
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(() => {
        waiting.delete(begin)
        reject(new QueueFullError(`no turn within ${patienceMs} ms`))
      }, patienceMs)
      waiting.add(begin)
    })
  }

  /** Hands the place to the one that has waited longest. */
  function leave() {
    const [next] = waiting
    if (!next) {
      running -= 1
      return
    }
    waiting.delete(next)
    next()
  }

  return {
    isFull,
    async run(work) {
      if (isFull()) throw new QueueFullError(`${mostWaiting} are waiting`)
      await turn()
      try {
        return await work()
      } finally {
        leave()
      }
    },
  }
}
