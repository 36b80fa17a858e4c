import { setTimeout } from 'node:timers/promises'
import type { Log } from '../observability/log.ts'
import type { ToWorker } from './messages.ts'
import type { WorkerProcess } from './worker-process.ts'

/** Milliseconds until a worker that ended is replaced: doubled for each that ended soon after. */
const leastPauseMs = 100
const mostPauseMs = 30_000

/** Milliseconds after which a worker has proved itself: the next pause is the least again. */
const provenMs = 60_000

/** Milliseconds between two questions whether workers live, and for which an answer is waited for. */
const checkMs = 10_000
const deafMs = 30_000

/** Milliseconds that workers get to end: requests that were begun have 20 seconds of them. */
const patienceMs = 30_000

export interface Workers extends AsyncDisposable {
  /** Those that serve now. */
  serving(): readonly WorkerProcess[]
  /** What the first worker has said for the welcome. */
  readonly facts: unknown
  tell(message: ToWorker): void
  /** Rejects when none serves, and none could be started in the place of the last one. */
  readonly failed: Promise<never>
}

export interface WorkersOptions {
  readonly count: number
  readonly start: (number: number, options: { isFirstStart: boolean }) => WorkerProcess
  readonly log: Log
  readonly onServing?: (worker: WorkerProcess) => void
  /** Told of a worker that ended unasked. */
  readonly onEnded?: (worker: WorkerProcess) => void
}

/**
 * Runs so many workers, and replaces those that end or no longer answer. The first makes what an
 * installation begins with, and the others start when it serves.
 *
 * Disposing has them finish the requests that were begun, and kills those that do not end.
 *
 * @throws {@link WorkerStartError} when one of them cannot start; then none is left.
 */
export async function openWorkers({
  count,
  start,
  log,
  onServing = () => {},
  onEnded = () => {},
}: WorkersOptions): Promise<Workers> {
  /** Every process, whether it serves yet or not. */
  const processes = new Set<WorkerProcess>()
  const serving = new Set<WorkerProcess>()
  /** The one that does what one process of a node is enough for. */
  let leader: WorkerProcess | undefined
  const stopping = new AbortController()
  const { signal } = stopping
  const { promise: failed, reject: fail } = Promise.withResolvers<never>()
  failed.catch(() => {})

  /** One that serves leads: the first at first, and another as soon as that one has ended. */
  function appointLeader() {
    if (leader && serving.has(leader)) return
    leader = [...serving][0]
    leader?.tell({ type: 'lead' })
  }

  async function begin(number: number, isFirstStart: boolean): Promise<WorkerProcess> {
    const worker = start(number, { isFirstStart })
    processes.add(worker)
    void worker.ended.then(() => processes.delete(worker))
    await worker.serving
    if (signal.aborted) return worker
    serving.add(worker)
    appointLeader()
    onServing(worker)
    return worker
  }

  /** Replaces a worker whenever it ends. */
  async function keep(first: WorkerProcess): Promise<void> {
    const { number } = first
    let worker: WorkerProcess | undefined = first
    for (let failures = 0; !signal.aborted; failures += 1) {
      if (worker) {
        const began = performance.now()
        const { pid } = worker
        const end = await worker.ended
        serving.delete(worker)
        if (signal.aborted) return
        appointLeader()
        log.error(
          { event: 'worker.ended', worker: number, pid, exitCode: end.code, signal: end.signal },
          'a worker ended; it is replaced',
        )
        onEnded(worker)
        if (performance.now() - began > provenMs) failures = 0
      }
      await setTimeout(Math.min(leastPauseMs * 2 ** failures, mostPauseMs), undefined, {
        signal,
      }).catch(() => {})
      if (signal.aborted) return
      worker = await begin(number, false).catch((error: Error) => {
        if (signal.aborted) return undefined
        log.error(
          { event: 'worker.failed', worker: number, err: error },
          'a worker could not start',
        )
        if (serving.size === 0) fail(error)
        return undefined
      })
      if (worker)
        log.info({ event: 'worker.started', worker: number, pid: worker.pid }, 'a worker serves')
    }
  }

  async function stop(): Promise<void> {
    stopping.abort()
    clearInterval(timer)
    for (const worker of processes) worker.tell({ type: 'stop' })
    const done = new AbortController()
    const late = setTimeout(patienceMs, undefined, done).then(
      () => {
        for (const worker of processes) worker.kill()
      },
      () => {},
    )
    await Promise.all([...processes].map(({ ended }) => ended))
    done.abort()
    await late
  }

  function check() {
    for (const worker of serving) {
      worker.ask('live', deafMs).catch(() => {
        if (serving.has(worker)) worker.kill()
      })
    }
  }

  const timer = setInterval(check, checkMs)
  timer.unref()
  try {
    const first = await begin(1, true)
    const others = Array.from({ length: count - 1 }, (_, at) => begin(at + 2, true))
    const all = [first, ...(await Promise.all(others))]
    for (const worker of all) void keep(worker)
    return {
      serving: () => [...serving],
      facts: await first.serving,
      tell(message) {
        for (const worker of serving) worker.tell(message)
      },
      failed,
      [Symbol.asyncDispose]: stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}
