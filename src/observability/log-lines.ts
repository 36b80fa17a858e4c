import { writeSync } from 'node:fs'
import type { DestinationStream } from 'pino'

/** Characters that wait for what cannot be written now. What comes on top is dropped. */
const mostWaiting = 1024 * 1024

/** Milliseconds between two tries. */
const pause = 100

/** How often the end of the process tries. */
const lastTries = 10

/** Of each file one, which all logs of this process write to: their lines keep their order. */
const destinations = new Map<number, DestinationStream>()

let dropped = 0

/** Lines that this process has dropped because they could not be written. */
export function droppedLines(): number {
  return dropped
}

/**
 * Writes the lines of one turn of the event loop at once: a write is dearer than what it says, and
 * under load many requests end in one turn. A process that is killed loses the lines of that turn;
 * one that ends, for whatever reason of its own, loses none.
 *
 * A reader who stops or leaves stops nobody, and neither does a disk that is full: lines wait, up to
 * a limit. That is so for what Node has opened as non-blocking, such as the pipe of a supervisor; of
 * a blocking one the system itself makes every writer wait. pino's own destination stops the process
 * in all of these cases, until they end.
 */
export function linesTo(fd: number): DestinationStream {
  const destination = destinations.get(fd) ?? openLines(fd)
  destinations.set(fd, destination)
  return destination
}

function openLines(fd: number): DestinationStream {
  /** What was begun, and has to be finished before anything else. */
  let begun: Uint8Array = new Uint8Array()
  let lines: string[] = []
  let waiting = 0
  let scheduled = false

  /** Whether all is written. */
  function write(): boolean {
    const bytes = Buffer.concat([begun, Buffer.from(lines.join(''))])
    let written = 0
    try {
      while (written < bytes.length) written += writeSync(fd, bytes, written)
    } catch {
      // It is full, nobody reads it now, or there is no room on the disk: all of that may end.
    }
    begun = bytes.subarray(written)
    lines = []
    waiting = begun.length
    return waiting === 0
  }

  function flush(): void {
    scheduled = !write()
    if (scheduled) setTimeout(flush, pause).unref()
  }

  process.on('exit', () => {
    const sleeping = new Int32Array(new SharedArrayBuffer(4))
    for (let tries = 1; !write() && tries < lastTries; tries += 1) {
      Atomics.wait(sleeping, 0, 0, pause)
    }
  })

  return {
    write(line) {
      if (waiting + line.length > mostWaiting) {
        dropped += 1
        return
      }
      lines.push(line)
      waiting += line.length
      if (scheduled) return
      scheduled = true
      setImmediate(flush)
    },
  }
}
