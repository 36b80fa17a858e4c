/** Where used proofs and sessions are kept: in this process, or where all processes of the gate see them. */
import { createMemoryReplayStore, type ReplayStore } from '@holdfast/verify'
import { createPostgresReplayStore, postgresReplayTable } from '@holdfast/verify/postgres'
import { createRedisReplayStore } from '@holdfast/verify/redis'
import { createMemorySessionStore, type SessionStore } from './browser/sessions.ts'
import { createPostgresSessionStore, postgresSessionTable } from './browser/sessions-postgres.ts'
import { createRedisSessionStore } from './browser/sessions-redis.ts'
import type { Config } from './config.ts'

/** Stores that are open. */
export interface OpenStores extends AsyncDisposable {
  readonly replay: ReplayStore
  readonly sessions: SessionStore
}

/** Milliseconds that a request waits for a store, and then is refused. */
const patienceMs = 2000

/** Milliseconds between two removals of expired entries in PostgreSQL. */
const sweepMs = 60_000

/**
 * Opens the stores of a configuration. A store that goes away later refuses requests until it is back:
 * none passes unseen.
 *
 * @throws where the store cannot be reached.
 */
export function openStores(
  { replay, limits }: Pick<Config, 'replay' | 'limits'>,
  now: () => number = Date.now,
): Promise<OpenStores> {
  if (replay?.redis !== undefined) return openRedis(replay.redis, now)
  if (replay?.postgres !== undefined) return openPostgres(replay.postgres, now)
  return Promise.resolve({
    replay: createMemoryReplayStore({ capacity: limits.replayEntries }),
    sessions: createMemorySessionStore({ capacity: limits.sessions }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  })
}

async function openRedis(url: string, now: () => number): Promise<OpenStores> {
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
  const send = (args: string[]) => client.sendCommand(args)
  return {
    replay: createRedisReplayStore({ send, prefix: 'holdfast:gate:' }),
    sessions: createRedisSessionStore(send, now),
    async [Symbol.asyncDispose]() {
      client.destroy()
    },
  }
}

async function openPostgres(connectionString: string, now: () => number): Promise<OpenStores> {
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
    await pool.query(`${postgresSessionTable};\n${postgresReplayTable}`)
  } catch (error) {
    await pool.end()
    throw error
  }
  const replay = createPostgresReplayStore({ client: pool })
  const sessions = createPostgresSessionStore(pool)
  const timer = setInterval(() => {
    // What was not removed now is removed the next time.
    replay.sweep(now() / 1000).catch(() => {})
    sessions.sweep(now()).catch(() => {})
  }, sweepMs)
  timer.unref()
  return {
    replay,
    sessions,
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await pool.end()
    },
  }
}
