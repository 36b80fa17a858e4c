import { fork } from 'node:child_process'
import { once } from 'node:events'

export interface Latencies {
  readonly count: number
  readonly p50_ms: number | null
  readonly p99_ms: number | null
  readonly max_ms: number | null
}

/** What the normal load has seen in one phase. */
export interface NormalReport {
  readonly operations: Readonly<Record<string, Latencies>>
  readonly failures: Readonly<Record<string, number>>
}

export interface HostileReport {
  /** By kind, and by the status of the answer. */
  readonly answers: Readonly<Record<string, Readonly<Record<string, number>>>>
  readonly unanswered: number
  /** Connections without a reader that the server has ended. */
  readonly closed: number
}

export interface Child<Report> extends AsyncDisposable {
  /** What it sends belongs to this phase from now on. */
  begin(phase: string): void
  /** Ends its load, and gives what it has seen. */
  report(): Promise<Report>
}

/** Starts a load in a process of its own, and waits until it is ready. */
export async function startChild<Report>(
  file: string,
  ...given: readonly unknown[]
): Promise<Child<Report>> {
  const child = fork(
    new URL(file, import.meta.url),
    given.map((value) => JSON.stringify(value)),
  )
  const exited = once(child, 'exit')
  const ended = exited.then(() => Promise.reject(new Error(`${file} ended too early`)))
  ended.catch(() => {})
  const answer = () => Promise.race([once(child, 'message').then(([message]) => message), ended])
  await answer()
  return {
    begin: (phase) => child.send(phase),
    report() {
      const answered = answer()
      child.send('report')
      return answered
    },
    async [Symbol.asyncDispose]() {
      // Requests without an answer would keep it alive.
      child.kill()
      await exited
    },
  }
}
