import { type DestinationStream, type Logger, pino } from 'pino'
import type { LogLevel } from '../config/config.ts'
import { linesTo } from './log-lines.ts'
import { redact } from './redact.ts'

export type Log = Logger

/** JSON lines on standard error, so that standard output stays with what a person asked for. */
export function createLog(level: LogLevel, destination: DestinationStream = linesTo(2)): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      // redact() has made plain objects of errors; pino would make them a second time.
      serializers: { err: (error) => error },
      formatters: { log: (record) => redact(record) as Record<string, unknown> },
    },
    destination,
  )
}
