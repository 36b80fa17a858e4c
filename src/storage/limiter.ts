/** Counts to `points` in `duration` seconds, for each key and over all nodes. */
export interface Limiter {
  /** Takes a point. When there was none left: the seconds until there are new ones. */
  take(key: string): Promise<number | undefined>
  /**
   * Seconds until there are new points, where this node knows already that there are none: it asks
   * nobody. Undefined where there may be some.
   */
  blocked(key: string): number | undefined
  /** Gives one point back. */
  giveBack(key: string): Promise<void>
  /** Whether a point was taken in this duration. */
  has(key: string): Promise<boolean>
  forget(key: string): Promise<void>
}

export interface LimiterOptions {
  readonly name: string
  readonly points: number
  /** Seconds. */
  readonly duration: number
}

export type MakeLimiter = (options: LimiterOptions) => Limiter
