import { once } from 'node:events'
import { inspect } from 'node:util'
import { NotReadyError } from '../http/readiness.ts'
import { createSiblings } from '../limits/siblings.ts'
import { createLog, type Log, logLostConnection } from '../observability/log.ts'
import { type RunningServer, startServer } from '../server.ts'
import { openStorage } from '../storage/open-storage.ts'
import type { FromWorker, NotReady, Question, ToWorker } from '../workers/messages.ts'
import { explain } from './command.ts'
import { recordFirstSteps } from './first-steps.ts'
import type { WelcomeFacts } from './welcome.ts'

/** Serves until the primary says that it is enough, or is gone. */
export async function serveAsWorker(): Promise<void> {
  // A terminal and a service manager signal every process of a group: the primary decides.
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => {})
  const stopped = Promise.withResolvers<void>()
  process.once('disconnect', stopped.resolve)
  try {
    const [first] = await Promise.race([once(process, 'message'), stopped.promise.then(() => [])])
    if (first) await serve(first, stopped)
  } catch (error) {
    process.exitCode = 1
    await tell({ type: 'failed', reason: explain(error) ?? inspect(error) })
  }
  if (process.connected) process.disconnect()
}

type Start = Extract<ToWorker, { type: 'start' }>

async function serve(
  { config, number, isFirstStart }: Start,
  stopped: PromiseWithResolvers<void>,
): Promise<void> {
  const { logLevel, operations } = config
  const log = createLog(logLevel, undefined, number)
  const siblings = createSiblings((taken) => void tell({ type: 'taken', taken }))
  const early: ToWorker[] = []
  let hear = (message: ToWorker) => void early.push(message)
  process.on('message', (message: ToWorker) => {
    if (message.type === 'stop') stopped.resolve()
    else if (message.type === 'taken') siblings.hear(message.taken)
    else hear(message)
  })
  await using storage = await openWorkerStorage(config, log)
  await using server = await startServer(config, storage, log, {
    worker: { number, of: operations.workers, siblings },
  })
  const firstSteps =
    number === 1 && isFirstStart ? await recordFirstSteps(config, storage, server) : undefined
  hear = (message) => void answer(message, server)
  early.forEach(hear)
  const { issuer, authorityFile } = server
  await tell({
    type: 'serving',
    facts: firstSteps && ({ issuer, authorityFile, firstSteps } satisfies WelcomeFacts),
  })
  await stopped.promise
}

function openWorkerStorage(config: Start['config'], log: Log) {
  return openStorage({
    ...config,
    connections: config.operations.connectionsPerWorker,
    tracing: config.operations.tracing,
    migrates: 'done',
    onError: (error) => logLostConnection(log, error),
  })
}

async function answer(message: ToWorker, server: RunningServer): Promise<void> {
  if (message.type === 'drain') server.drain()
  if (message.type === 'lead') server.lead()
  if (message.type !== 'ask') return
  const { id, about } = message
  await tell({ type: 'answer', id, answer: await answers[about](server) })
}

const answers: Readonly<Record<Question, (server: RunningServer) => Promise<unknown>>> = {
  live: async () => true,
  ready: ({ ready }) =>
    ready().then(
      () => undefined,
      (error): NotReady => ({
        reason: error instanceof NotReadyError ? error.message : undefined,
      }),
    ),
  metrics: ({ metrics }) => metrics.registry.getMetricsAsJSON(),
}

/** Sends a message; what a primary that is gone does not hear is lost. */
function tell(message: FromWorker): Promise<void> {
  return new Promise((resolve) => {
    if (process.connected) process.send?.(message, undefined, {}, () => resolve())
    else resolve()
  })
}
