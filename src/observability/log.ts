import { type DestinationStream, type Logger, pino } from 'pino'
import type { LogLevel } from '../config/config.ts'

export type Log = Logger

/** JSON lines on standard error, so that standard output stays with what a person asked for. */
export function createLog(
  level: LogLevel,
  destination: DestinationStream = pino.destination(2),
): Log {
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, destination)
}
