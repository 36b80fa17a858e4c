import { type DestinationStream, type Logger, pino } from 'pino'
import type { LogLevel } from '../config/config.ts'
import { redact } from './redact.ts'

export type Log = Logger

/** Of each file one, which all logs of this process write to: their lines keep their order. */
const destinations = new Map<number, DestinationStream>()

/**
 * Writes the lines of one turn of the event loop at once: a write is dearer than what it says, and
 * under load many requests end in one turn. A process that is killed loses the lines of that turn;
 * one that ends, for whatever reason of its own, loses none.
 */
export function linesTo(fd: number): DestinationStream {
  const destination = destinations.get(fd) ?? openLines(fd)
  destinations.set(fd, destination)
  return destination
}

function openLines(fd: number): DestinationStream {
  const file = pino.destination({ dest: fd, sync: true, minLength: 8 * 1024 })
  let waiting = false
  const flush = () => {
    waiting = false
    file.flushSync()
  }
  process.on('exit', flush)
  return {
    write(line) {
      file.write(line)
      if (waiting) return
      waiting = true
      setImmediate(flush)
    },
  }
}

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
