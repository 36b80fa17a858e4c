/** Where used proofs are remembered: in this process, or where all processes of the gate see them. */
import { createMemoryReplayStore, type ReplayStore } from '@holdfast/verify'
import { createPostgresReplayStore, postgresReplayTable } from '@holdfast/verify/postgres'
import { createRedisReplayStore } from '@holdfast/verify/redis'
import type { Config } from './config.ts'

/** A store that is open. */
export interface OpenReplay extends AsyncDisposable {
  readonly store: ReplayStore
}

/** Milliseconds that a request waits for a store, and then is refused. */
const patienceMs = 2000

/** Milliseconds between two removals of expired entries in PostgreSQL. */
const sweepMs = 60_000

/**
 * Opens the store of a configuration. A store that goes away later refuses requests until it is back:
 * none passes unseen.
 *
 * @throws where the store cannot be reached.
 */
export function openReplay(
  { replay, limits }: Pick<Config, 'replay' | 'limits'>,
  now: () => number = Date.now,
): Promise<OpenReplay> {
  if (replay?.redis !== undefined) return openRedis(replay.redis)
  if (replay?.postgres !== undefined) return openPostgres(replay.postgres, now)
  const store = createMemoryReplayStore({ capacity: limits.replayEntries })
  return Promise.resolve({ store, [Symbol.asyncDispose]: () => Promise.resolve() })
}

async function openRedis(url: string): Promise<OpenReplay> {
  const { createClient } = await import('redis')
  const client = createClient({
    url,
    // While it is away, a command fails instead of waiting.
    disableOfflineQueue: true,
    commandOptions: { timeout: patienceMs },
    socket: { connectTimeout: patienceMs },
  })
  let connected = false
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  client.on('error', (error) => {
    if (!connected) reject(error)
  })
  client.connect().then(() => resolve(), reject)
  try {
    await promise
  } catch (error) {
    client.destroy()
    throw error
  }
  connected = true
  return {
    store: createRedisReplayStore({
      send: (args) => client.sendCommand(args),
      prefix: 'holdfast:gate:',
    }),
    async [Symbol.asyncDispose]() {
      client.destroy()
    },
  }
}

async function openPostgres(connectionString: string, now: () => number): Promise<OpenReplay> {
  const { default: pg } = await import('pg')
  const pool = new pg.Pool({
    connectionString,
    max: 8,
    connectionTimeoutMillis: patienceMs,
    query_timeout: patienceMs,
  })
  // A connection that breaks while nobody uses it; the next request opens another one.
  pool.on('error', () => {})
  try {
    await pool.query(postgresReplayTable)
  } catch (error) {
    await pool.end()
    throw error
  }
  const store = createPostgresReplayStore({ client: pool })
  const timer = setInterval(() => {
    // What was not removed now is removed the next time.
    store.sweep(now() / 1000).catch(() => {})
  }, sweepMs)
  timer.unref()
  return {
    store,
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await pool.end()
    },
  }
}
