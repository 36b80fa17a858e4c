/** Used proofs in Redis or Valkey, for several replicas. */
import { hash } from 'node:crypto'
import { checkNames, duration, namesOf } from './lib/check.ts'
import type { ReplayOutcome, ReplayStore } from './replay.ts'

/** Options of {@link createRedisReplayStore}. */
export type RedisReplayOptions = Readonly<{
  /**
   * Sends one command and gives its reply: `(args) => client.sendCommand(args)` with node-redis,
   * `([name, ...args]) => client.call(name, ...args)` with ioredis.
   */
  send: (args: string[]) => Promise<unknown>
  /** Put before each key. Default `holdfast:replay:`. */
  prefix?: string
  /** Seconds by which the clocks of the replicas may differ. Default 5. */
  clockDifference?: number
}>

const redisOptions = namesOf<RedisReplayOptions>({
  send: true,
  prefix: true,
  clockDifference: true,
})

/**
 * Makes a replay store of one `SET … NX PX` a proof.
 *
 * The server must not evict keys (`maxmemory-policy noeviction`): when it is full it then refuses,
 * and so does the verifier. It does NOT survive what the server forgets: after a fail-over that
 * lost the last writes, proofs of those moments could be used again.
 *
 * @example
 * ```ts
 * const client = await createClient({ url }).connect()
 * const replay = createRedisReplayStore({ send: (args) => client.sendCommand(args) })
 * createVerifier({ issuer, audience, replay, replicas: 3 })
 * ```
 */
export function createRedisReplayStore(options: RedisReplayOptions): ReplayStore {
  checkNames('options', options, redisOptions)
  if (typeof options.send !== 'function') throw new TypeError('send must be a function')
  duration('clockDifference', options.clockDifference, 5)
  const { send, prefix = 'holdfast:replay:', clockDifference = 5 } = options
  return Object.freeze({
    shared: true,
    async consume(key: string, expiresAt: number, now: number): Promise<ReplayOutcome> {
      const name = prefix + hash('sha256', key, 'base64url')
      const milliseconds = Math.ceil((expiresAt - now + clockDifference) * 1000)
      const reply = await send(['SET', name, '1', 'NX', 'PX', String(milliseconds)])
      if (reply === null) return 'replayed'
      // Anything but its OK is no promise to remember.
      if (String(reply) !== 'OK') throw new Error('unexpected reply to SET')
      return 'fresh'
    },
  })
}
