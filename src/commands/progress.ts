import { SingleBar } from 'cli-progress'

/**
 * Tells of a step that begins: what it is, and how many of how many are done before it. Of 0 when
 * nobody knows how many there are. When all are done, nothing is under way.
 */
export type ReportStep = (what: string, done: number, total: number) => void

export interface Progress extends Disposable {
  readonly report: ReportStep
  /** Nothing is under way until the next report: something else may be printed. */
  rest(): void
}

let terminal: NodeJS.WriteStream | undefined

/** Lets commands draw their progress on a terminal; on anything else, they draw none. */
export function drawProgressOn(stream: NodeJS.WriteStream | undefined): void {
  terminal = stream?.isTTY ? stream : undefined
}

const width = 24

/**
 * A bar for what takes longer than a second, gone when it is done.
 *
 * @param patience milliseconds: what is over sooner needs no bar.
 */
export function showProgress({ patience = 1000 }: { patience?: number } = {}): Progress {
  const stream = terminal
  if (stream === undefined) return { report() {}, rest() {}, [Symbol.dispose]() {} }
  const bar = new SingleBar({
    stream,
    format(_options, { value, total }, { what }: { what: string }) {
      const done = Math.round((width * value) / total)
      const seconds = Math.floor((Date.now() - began) / 1000)
      const line =
        total > 0
          ? `${'━'.repeat(done)}${'─'.repeat(width - done)} ${what}`
          : `${what} …${seconds > 0 ? ` ${seconds} s` : ''}`
      // Of a line that is wrapped, only the last part would be cleared.
      return line.slice(0, (stream.columns || 80) - 1)
    },
    clearOnComplete: true,
    // The terminal is left as it is: a signal may end the process at any time.
    hideCursor: false,
    linewrap: true,
    gracefulExit: false,
  })
  let last: readonly [what: string, done: number, total: number] = ['', 0, 0]
  let began = Date.now()
  let timer: NodeJS.Timeout | undefined

  function start(): void {
    const [what, done, total] = last
    bar.start(total, done, { what })
  }

  function rest(): void {
    clearTimeout(timer)
    timer = undefined
    if (bar.isActive) bar.stop()
  }

  return {
    report(...step) {
      const [what, done, total] = step
      if (what !== last[0]) began = Date.now()
      last = step
      if (total > 0 && done >= total) return rest()
      timer ??= setTimeout(start, patience).unref()
      if (!bar.isActive) return
      bar.setTotal(total)
      bar.update(done, { what })
    },
    rest,
    [Symbol.dispose]: rest,
  }
}
