import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import type { FromWorker, Question, ToWorker } from './messages.ts'

/** A worker could not start. The message is what it has said of it. */
export class WorkerStartError extends Error {
  override name = 'WorkerStartError'
}

/** How a process ended. */
export interface WorkerEnd {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface WorkerProcess {
  readonly number: number
  readonly pid: number | undefined
  /** Resolves when it serves, with what it says for the welcome. @throws {@link WorkerStartError} */
  readonly serving: Promise<unknown>
  readonly ended: Promise<WorkerEnd>
  /** Sends a message, which is lost where the process has ended. */
  tell(message: ToWorker): void
  /** Asks, and rejects when there is no answer in time. */
  ask(about: Question, patienceMs: number): Promise<unknown>
  kill(): void
}

export interface WorkerProcessOptions {
  /** The file that a worker runs. */
  readonly program: string
  readonly start: Extract<ToWorker, { type: 'start' }>
  /** Told of what the worker has taken of shared limits. */
  readonly onTaken: (message: Extract<FromWorker, { type: 'taken' }>) => void
}

/**
 * Starts a process that serves. It writes its log where this process does, gets what is configured
 * as a message, and ends of itself when this process is gone.
 */
export function startWorker({ program, start, onTaken }: WorkerProcessOptions): WorkerProcess {
  const child = fork(program, {
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const answers = new Map<number, (answer: unknown) => void>()
  const { promise: serving, resolve, reject } = Promise.withResolvers<unknown>()
  serving.catch(() => {})
  let reason: string | undefined
  let questions = 0

  child.on('message', (message: FromWorker) => {
    if (message.type === 'serving') resolve(message.facts)
    else if (message.type === 'failed') reason = message.reason
    else if (message.type === 'taken') onTaken(message)
    else answers.get(message.id)?.(message.answer)
  })
  const ended = endOf(child)
  void ended.then(({ code, signal }) => {
    const end = `worker ${start.number} ended with ${signal ?? `exit code ${code}`}`
    reject(new WorkerStartError(reason ?? `The ${end} before it served.`))
  })

  function tell(message: ToWorker) {
    // That it has ended is known from elsewhere.
    if (child.connected) child.send(message, () => {})
  }

  tell(start)
  return {
    number: start.number,
    pid: child.pid,
    serving,
    ended,
    tell,
    async ask(about, patienceMs) {
      questions += 1
      const id = questions
      const { promise: answer, resolve: answered, reject: late } = Promise.withResolvers<unknown>()
      const why = `worker ${start.number} has not answered in ${patienceMs} ms`
      const timer = setTimeout(() => late(new Error(why)), patienceMs)
      answers.set(id, answered)
      tell({ type: 'ask', id, about })
      try {
        return await answer
      } finally {
        clearTimeout(timer)
        answers.delete(id)
      }
    },
    kill: () => child.kill('SIGKILL'),
  }
}

/** A process that could not be started at all has ended as well. */
async function endOf(child: ChildProcess): Promise<WorkerEnd> {
  try {
    const [code, signal] = await once(child, 'exit')
    return { code, signal }
  } catch {
    return { code: null, signal: null }
  }
}
