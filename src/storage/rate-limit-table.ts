import { hash } from 'node:crypto'
import { RateLimiterPostgres, RateLimiterRes } from 'rate-limiter-flexible'
import type { Database } from './database.ts'
import { expiringRows } from './expiring-rows.ts'
import type { Limiter, LimiterOptions } from './limiter.ts'

export type RateLimitTable = ReturnType<typeof createRateLimitTable>

/** The table `rate_limits`: counted by rate-limiter-flexible, cleaned up here. */
export function createRateLimitTable(database: Database) {
  return {
    makeLimiter: (options: LimiterOptions): Limiter => createLimiter(database, options),

    ...expiringRows(database, {
      table: 'rate_limits',
      column: 'expire',
      type: 'bigint',
      before: '(extract(epoch from now()) * 1000)::bigint',
    }),
  }
}

/**
 * A counter in the table `rate_limits`. Keys are hashed: the table names nobody. The duration
 * begins with the first point and is not lengthened by later ones, so that nobody is kept out by
 * someone else who keeps trying. A key that has no points left is refused by the memory of this
 * process from then on: a flood does not reach the database. The library looks through the keys that
 * are refused whenever one is added to more than 999: 0.4 ms for 10,000. It takes `points` requests to
 * add one, and no limit lasts so long that there are more than a few thousand.
 */
function createLimiter(
  database: Pick<Database, 'query'>,
  { name, points, duration }: LimiterOptions,
): Limiter {
  const counter = new RateLimiterPostgres({
    storeClient: database,
    storeType: 'client',
    tableName: 'rate_limits',
    tableCreated: true,
    clearExpiredByTimeout: false,
    keyPrefix: name,
    points,
    duration,
    inMemoryBlockOnConsumed: points + 1,
  })
  const inMemory = counter as typeof counter & InMemoryBlocks
  return {
    async take(key) {
      try {
        await counter.consume(digest(key))
        return undefined
      } catch (refused) {
        if (!(refused instanceof RateLimiterRes)) throw refused
        return Math.max(1, Math.ceil(refused.msBeforeNext / 1000))
      }
    },
    blocked(key) {
      const ms = inMemory.getInMemoryBlockMsBeforeExpire(counter.getKey(digest(key)))
      return ms > 0 ? Math.max(1, Math.ceil(ms / 1000)) : undefined
    },
    async giveBack(key) {
      await counter.reward(digest(key))
    },
    async has(key) {
      return (await counter.get(digest(key))) !== null
    },
    async forget(key) {
      await counter.delete(digest(key))
    },
  }
}

/** A method of rate-limiter-flexible that its type declarations leave out. */
interface InMemoryBlocks {
  getInMemoryBlockMsBeforeExpire(key: string): number
}

function digest(key: string): string {
  return hash('sha256', key, 'base64url')
}
