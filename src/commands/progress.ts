import { SingleBar } from 'cli-progress'

/** Tells of a step that begins: what it is, and how many of how many are done before it. */
export type ReportStep = (what: string, done: number, total: number) => void

export interface Progress extends Disposable {
  readonly report: ReportStep
}

let terminal: NodeJS.WriteStream | undefined

/** Lets commands draw their progress on a terminal; on anything else, they draw none. */
export function drawProgressOn(stream: NodeJS.WriteStream | undefined): void {
  terminal = stream?.isTTY ? stream : undefined
}

/**
 * A bar for what takes longer than a second, gone when it is done.
 *
 * @param patience milliseconds: what is over sooner needs no bar.
 */
export function showProgress({ patience = 1000 }: { patience?: number } = {}): Progress {
  const stream = terminal
  if (stream === undefined) return { report() {}, [Symbol.dispose]() {} }
  const bar = new SingleBar({
    stream,
    format: '{bar} {what}',
    barsize: 24,
    barCompleteChar: '━',
    barIncompleteChar: '─',
    clearOnComplete: true,
    // The terminal is left as it is: a signal may end the process at any time.
    hideCursor: false,
    linewrap: true,
    gracefulExit: false,
  })
  let last: readonly [what: string, done: number, total: number] = ['', 0, 1]
  const timer = setTimeout(() => {
    const [what, done, total] = last
    bar.start(total, done, { what })
  }, patience)
  timer.unref()
  return {
    report(...step) {
      last = step
      if (!bar.isActive) return
      const [what, done, total] = step
      bar.setTotal(total)
      bar.update(done, { what })
    },
    [Symbol.dispose]() {
      clearTimeout(timer)
      if (bar.isActive) bar.stop()
    },
  }
}
