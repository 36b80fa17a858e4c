/**
 * The database does not answer now, and may in a moment. Thrown instead of the driver's error.
 *
 * The members are those that koa and the engine read of an error that may be shown: a request that
 * it ends is answered 503 with the OAuth code for this (RFC 6749 section 4.1.2.1). What the driver
 * said is in `cause`, for the log.
 */
export class DatabaseUnavailableError extends Error {
  override name = 'DatabaseUnavailableError'
  readonly statusCode = 503
  readonly status = 503
  readonly expose = true
  readonly allow_redirect = true
  readonly error = 'temporarily_unavailable'
  readonly error_description = 'the server cannot reach its database; try again in a moment'
  readonly error_detail: string
  /** What the driver said, for people. */
  readonly reason: string

  constructor(cause: Error) {
    super('temporarily_unavailable', { cause })
    this.reason = cause.message || String((cause as NodeJS.ErrnoException).code)
    this.error_detail = `database: ${this.reason}`
  }
}

/** Errors of the connection. */
const systemCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
])

/**
 * Connection exceptions, insufficient resources, operator intervention (a server that starts, stops
 * or ends a statement), and a standby in the place of a primary: read_only_sql_transaction, and for
 * the unlogged rate_limits feature_not_supported, which no statement of ours is otherwise.
 */
const passingStates = /^(?:08|53|57P0[1-3]|57014|25006|0A000)/

/** What the driver says without a code. */
const driverSentences =
  /^(?:Connection terminated|timeout exceeded when trying to connect|Query read timeout|Client has encountered a connection error)/

/** The error to throw for a failed statement: the driver's, unless it is one that passes. */
export function asUnavailable(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const { code = '' } = error as NodeJS.ErrnoException
  const passes =
    systemCodes.has(code) || passingStates.test(code) || driverSentences.test(error.message)
  return passes ? new DatabaseUnavailableError(error) : error
}
