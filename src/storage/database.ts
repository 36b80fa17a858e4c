import pg from 'pg'
import { asUnavailable } from './database-unavailable.ts'
import { StorageError } from './storage-error.ts'

/** PostgreSQL 15: the oldest release the tests run on. */
const oldestServer = 150_000

/** Milliseconds after which a server that went silent is given up: TCP alone waits for minutes. */
const standardStatementTimeout = 20_000

/**
 * Statements here go by keys: one plan is right for all parameters. PostgreSQL would plan those that
 * take arrays anew each time, which costs more than running them. And it would read the whole of a
 * table that it takes to be small, because nobody has analyzed it since it was: a plan that it keeps.
 */
const planByKeys = `set plan_cache_mode = force_generic_plan; set enable_seqscan = off;
                    set enable_hashjoin = off; set enable_mergejoin = off`

/**
 * A standby may be behind: it would show a token as good that was revoked, or lack one that a client
 * has received. One check for each connection: a primary becomes a standby by a restart, which ends
 * its connections.
 */
const refuseStandby = `do $$ begin
                         if pg_is_in_recovery() then
                           raise read_only_sql_transaction using message = 'the server is a standby';
                         end if;
                       end $$`

/**
 * Milliseconds for which a connection that nothing uses stays open. A new one plans every statement
 * again, which takes longer than many sign-ins; proxies close those that are silent for a minute.
 */
const idleTimeoutMs = 50_000

/** How the connections of the pool are used at this moment. */
export interface PoolUse {
  readonly open: number
  readonly idle: number
  /** Statements that wait for a connection. */
  readonly waiting: number
  /** For how long the one that waits longest has waited, as far as that was seen. */
  readonly waitMs: number
}

/** What serves requests: named statements over a pool. */
export interface Database extends AsyncDisposable {
  /**
   * Runs one statement. A `name` makes it a prepared statement of the connection, which PostgreSQL
   * plans once: the same name must always stand for the same text. Where prepared statements are
   * off, the name has no effect.
   *
   * @throws DatabaseUnavailableError when the database cannot be reached.
   */
  query<Row extends pg.QueryResultRow>(statement: {
    name?: string
    text: string
    values?: unknown[]
  }): Promise<{ rows: Row[]; rowCount: number }>
  poolUse(): PoolUse
}

/**
 * Opens a pool and makes sure that something answers it.
 *
 * @throws {@link StorageError} `database_unreachable` or `database_unusable`, never with the
 *   password of the connection string in the message.
 */
export async function openDatabase(
  connectionString: string,
  {
    onError,
    poolSize = 10,
    connectionTimeout = 10_000,
    statementTimeout = standardStatementTimeout,
    preparedStatements = true,
    mayBeStandby = false,
  }: {
    onError: (error: Error) => void
    poolSize?: number | undefined
    connectionTimeout?: number
    /** Milliseconds for one statement. */
    statementTimeout?: number
    /** Off for a pooler that gives each transaction another session and does not prepare there. */
    preparedStatements?: boolean | undefined
    /** For a caller that knows how far it is behind. */
    mayBeStandby?: boolean
  },
): Promise<Database> {
  const pool = new pg.Pool({
    connectionString,
    max: poolSize,
    connectionTimeoutMillis: connectionTimeout,
    query_timeout: statementTimeout,
    idleTimeoutMillis: idleTimeoutMs,
    application_name: 'holdfast',
    onConnect: (client) =>
      client.query(mayBeStandby ? planByKeys : `${refuseStandby}; ${planByKeys}`),
  })
  // An idle connection that breaks is replaced on the next use; without a listener it would end
  // the process.
  let closing = false
  pool.on('error', (error) => {
    // A server that is stopped right after may be faster than the farewell of a connection.
    if (!closing) onError(error)
  })
  const waitOf = measureWait(pool)
  try {
    const { rows } = await pool.query<{ version: number }>(
      "select current_setting('server_version_num')::int as version",
    )
    const version = rows[0]?.version ?? 0
    if (version < oldestServer) {
      throw new StorageError(
        'database_unusable',
        `DATABASE_URL is PostgreSQL ${Math.floor(version / 10_000)}; Holdfast needs 15 or newer.`,
      )
    }
  } catch (error) {
    await pool.end()
    throw describeConnectionError(error, connectionString)
  }
  return {
    async query({ name, ...statement }) {
      try {
        const named = preparedStatements && name !== undefined ? { name, ...statement } : statement
        const { rows, rowCount } = await pool.query(named)
        return { rows, rowCount: rowCount ?? 0 }
      } catch (error) {
        throw asUnavailable(error)
      }
    },
    poolUse: () => ({
      open: pool.totalCount,
      idle: pool.idleCount,
      waiting: pool.waitingCount,
      waitMs: waitOf(),
    }),
    async [Symbol.asyncDispose]() {
      closing = true
      await pool.end()
    },
  }
}

/**
 * How long statements wait for a connection. While some do, one more waits with them, for nothing
 * but to see how long that takes: the pool does not tell.
 */
function measureWait(pool: pg.Pool): () => number {
  let began: number | undefined
  let lastMs = 0
  async function wait() {
    const start = performance.now()
    began = start
    const client = await pool.connect().catch(() => undefined)
    client?.release()
    lastMs = performance.now() - start
    began = undefined
  }
  return () => {
    const isWaiting = pool.waitingCount > 0
    if (isWaiting && began === undefined) void wait()
    const thisMs = began === undefined ? 0 : performance.now() - began
    return isWaiting ? Math.max(thisMs, lastMs) : 0
  }
}

/** Turns a driver's error into a sentence that names what to change. */
export function describeConnectionError(error: unknown, connectionString: string): unknown {
  if (error instanceof StorageError) return error
  const { code = codeOf(error as Error), message } = error as NodeJS.ErrnoException
  const server = withoutPassword(connectionString)
  switch (code) {
    case 'ECONNREFUSED':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'ETIMEDOUT':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'ECONNRESET':
      return new StorageError(
        'database_unreachable',
        `No PostgreSQL answers at ${server} (${code}). Check DATABASE_URL, or unset it to use the embedded one.`,
        { cause: error },
      )
    case '28P01':
    case '28000':
      return new StorageError(
        'database_unusable',
        `PostgreSQL at ${server} refuses the user or password in DATABASE_URL.`,
        { cause: error },
      )
    case '3D000':
      return new StorageError(
        'database_unusable',
        `PostgreSQL at ${server} has no such database. Create it, or correct DATABASE_URL.`,
        { cause: error },
      )
    default:
      return new StorageError(
        'database_unusable',
        `PostgreSQL at ${server} cannot be used: ${withoutStatement(message) || code}.`,
        { cause: error },
      )
  }
}

/** The driver gives a connection that it waited for too long no code. */
function codeOf({ message }: Error): string | undefined {
  return /timeout/i.test(message) ? 'ETIMEDOUT' : undefined
}

/** knex puts the whole statement before what PostgreSQL says of it. */
function withoutStatement(message: string): string {
  return message.slice(message.lastIndexOf(' - ') + 1).replace(/^- /, '')
}

function withoutPassword(connectionString: string): string {
  const url = URL.parse(connectionString)
  return url ? `${url.host}${url.pathname}` : 'the address in DATABASE_URL'
}
