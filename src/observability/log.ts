import { type DestinationStream, type Logger, pino } from 'pino'
import type { LogLevel } from '../config/config.ts'
import { version } from '../config/version.ts'
import { linesTo } from './log-lines.ts'
import { redact } from './redact.ts'

export type Log = Logger

/**
 * JSON lines on standard error, so that standard output stays with what a person asked for.
 *
 * @param worker the number of this process, where a node is several: a field of each line.
 */
export function createLog(
  level: LogLevel,
  destination: DestinationStream = linesTo(2),
  worker?: number,
): Log {
  return pino(
    {
      level,
      base: worker === undefined ? null : { worker },
      timestamp: pino.stdTimeFunctions.isoTime,
      // redact() has made plain objects of errors; pino would make them a second time.
      serializers: { err: (error) => error },
      formatters: { log: (record) => redact(record) as Record<string, unknown> },
    },
    destination,
  )
}

/** The first line of a node. */
export function logStart(log: Log, facts: { workers?: number } = {}): void {
  const { version: node } = process
  log.info({ event: 'server.starting', version, node, ...facts }, 'Holdfast is starting')
}

/** A connection to the database broke while nobody used it: the next use opens another one. */
export function logLostConnection(log: Log, err: Error): void {
  log.warn({ event: 'database.connection_lost', err }, 'an idle connection to the database broke')
}
