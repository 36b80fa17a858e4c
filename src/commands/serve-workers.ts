import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Config } from '../config/config.ts'
import { requireFreePorts } from '../http/acceptors.ts'
import { listenForOperators } from '../http/operations-listener.ts'
import { NotReadyError } from '../http/readiness.ts'
import { createLog, logStart } from '../observability/log.ts'
import type { NotReady } from '../workers/messages.ts'
import { createNodeMetrics } from '../workers/node-metrics.ts'
import { startWorker, type WorkerProcess } from '../workers/worker-process.ts'
import { openWorkers } from '../workers/workers.ts'
import type { ServingNode } from './serve.ts'
import type { WelcomeFacts } from './welcome.ts'

/** Beside this folder, in the form that this file has. */
const program = fileURLToPath(new URL(`../worker${path.extname(import.meta.url)}`, import.meta.url))

/** Milliseconds in which a worker says whether it is alive or ready. */
const patienceMs = 2_000

/**
 * Serves by several processes that listen at the same port, each with connections to the database of
 * its own. This one, the primary, starts them, replaces those that end, and serves operators.
 */
export async function serveByWorkers(config: Config): Promise<ServingNode> {
  const { workers: count, metrics: address } = config.operations
  const log = createLog(config.logLevel)
  logStart(log, { workers: count })
  await requireFreePorts(config)
  await using opened = new AsyncDisposableStack()
  const running = new Set<WorkerProcess>()
  const metrics = createNodeMetrics(() => [...running])
  const workers = opened.use(
    await openWorkers({
      count,
      log,
      start: (number, { isFirstStart }) => {
        const worker = startWorker({
          program,
          start: { type: 'start', number, config, isFirstStart },
          onTaken(message) {
            for (const other of running) if (other !== worker) other.tell(message)
          },
        })
        return worker
      },
      onServing: (worker) => running.add(worker),
      onEnded(worker) {
        running.delete(worker)
        metrics.ended(worker)
      },
    }),
  )
  const ask = (about: 'live' | 'ready') =>
    Promise.all([...running].map((worker) => worker.ask(about, patienceMs)))
  if (address) {
    opened.use(
      await listenForOperators({
        address,
        config,
        ping: async () => requireReady(await ask('ready')),
        answer: async () => void (await ask('live')),
        metrics: metrics.text,
      }),
    )
  }
  const open = opened.move()
  return {
    facts: workers.facts as WelcomeFacts,
    drain: () => workers.tell({ type: 'drain' }),
    failed: workers.failed,
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

/** Requests come to any of the workers: all of those that serve must be ready, and there must be one. */
function requireReady(answers: readonly unknown[]): void {
  if (answers.length === 0) throw new Error('no worker serves')
  const [refusal] = answers.filter((each): each is NotReady => each !== undefined)
  if (!refusal) return
  throw refusal.reason === undefined
    ? new Error('a worker is not ready')
    : new NotReadyError(refusal.reason)
}
