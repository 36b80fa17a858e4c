/** A line of a file. */
export interface BoundedLine {
  /** Counted from 1. */
  readonly number: number
  /** Without its end; undefined for a line that is too long. */
  readonly bytes: Buffer | undefined
  /** How much of the file was read when the line was there. */
  readonly readBytes: number
}

const lineFeed = 0x0a

/** The lines of a stream, of which one at a time is in memory, up to a limit. */
export async function* boundedLines(
  chunks: AsyncIterable<Buffer>,
  limitBytes: number,
): AsyncGenerator<BoundedLine> {
  let number = 0
  let readBytes = 0
  const line = Buffer.alloc(limitBytes)
  let lineBytes = 0

  function add(part: Buffer) {
    // What is beyond the limit is not copied.
    part.copy(line, lineBytes)
    lineBytes += part.length
  }
  function take(): BoundedLine {
    const bytes = lineBytes <= limitBytes ? Buffer.from(line.subarray(0, lineBytes)) : undefined
    number += 1
    lineBytes = 0
    return { number, bytes, readBytes }
  }

  for await (const chunk of chunks) {
    readBytes += chunk.length
    let from = 0
    for (let at = chunk.indexOf(lineFeed); at >= 0; at = chunk.indexOf(lineFeed, from)) {
      add(chunk.subarray(from, at))
      yield take()
      from = at + 1
    }
    add(chunk.subarray(from))
  }
  if (lineBytes > 0) yield take()
}
