/**
 * Replaces the process that serves while the addresses stay open. One process has the listening
 * sockets and serves nothing; the one that serves shares them (`SCHED_NONE` of `node:cluster`). A new
 * one is started and listens before the old one stops: connections that nobody has accepted yet are
 * the new one's. Two processes with sockets of their own (SO_REUSEPORT) would lose those of the socket
 * that is closed.
 */
import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import type { RunningGate } from './running.ts'

/** What the first process tells the one that serves. */
type Order = 'stop' | 'replaced' | 'reload'

/** What the one that serves tells the first, once it listens. */
const ready = 'ready'

/**
 * Runs the command of this process once more, as the process that serves, until SIGTERM; SIGUSR2
 * replaces it. A new process that cannot start changes nothing.
 *
 * @throws where the process that serves cannot start, or ends by itself.
 */
export async function supervise(writeError: (text: string) => void): Promise<void> {
  cluster.schedulingPolicy = cluster.SCHED_NONE
  const { promise: ended, resolve, reject } = Promise.withResolvers<void>()
  let current = await started()
  watch(current)

  /** The process that serves must not end by itself: what runs this one then starts both anew. */
  function watch(worker: Worker): void {
    worker.once('exit', () => {
      if (worker === current) reject(new Error('the process that serves has ended'))
    })
  }

  let isReplacing = false
  async function replace(): Promise<void> {
    if (isReplacing) return
    isReplacing = true
    try {
      const next = await started()
      const before = current
      current = next
      watch(next)
      tell(before, 'replaced')
      writeError(`${JSON.stringify({ type: 'replaced' })}\n`)
    } catch {
      writeError(`${JSON.stringify({ type: 'replace_failed' })}\n`)
    } finally {
      isReplacing = false
    }
  }

  process.on('SIGUSR2', () => void replace())
  process.on('SIGHUP', () => tell(current, 'reload'))
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve())
  await ended
  const left = Object.values(cluster.workers ?? {}).flatMap((each) => each ?? [])
  const gone = left.map((each) => once(each, 'exit'))
  for (const each of left) tell(each, 'stop')
  await Promise.all(gone)
}

/** Starts a process, and waits until it serves. */
async function started(): Promise<Worker> {
  const worker = cluster.fork()
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  worker.once('exit', (code) => reject(new Error(`the process that serves ended with ${code}`)))
  worker.on('message', (message) => message === ready && resolve())
  await promise
  return worker
}

function tell(worker: Worker, order: Order): void {
  if (worker.isConnected()) worker.send(order)
}

/** Serves until the first process says otherwise. Signals are that one's: a terminal sends them to both. */
export async function obey(gate: RunningGate): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR2'] as const) {
    process.on(signal, () => {})
  }
  const { promise, resolve } = Promise.withResolvers<void>()
  process.on('message', (order: Order) => {
    if (order === 'reload') void gate.reload()
    else if (order === 'replaced') void gate.handOver().then(resolve)
    else resolve()
  })
  process.send?.(ready)
  await promise
}
