import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs'

/** A program of the system that runs until it is ended. */
export interface Program extends AsyncDisposable {
  readonly pid: number
  /** Sends a signal to it and to every process of its group. */
  signal(signal: NodeJS.Signals): void
  /** Resolves when it has ended. */
  end(signal: NodeJS.Signals): Promise<void>
}

export interface ProgramOptions {
  readonly folder: string
  /** Where its output goes, appended. */
  readonly log: string
  readonly user?: { uid?: number; gid?: number }
  readonly env?: Record<string, string>
}

/** Starts a program in a process group of its own. */
export function startProgram(
  file: string,
  args: readonly string[],
  { folder, log, user = {}, env = {} }: ProgramOptions,
): Program {
  const output = openSync(log, 'a')
  const { PATH = '' } = process.env
  const child = spawn(file, args, {
    cwd: folder,
    detached: true,
    stdio: ['ignore', output, output],
    env: { PATH, LC_ALL: 'C.UTF-8', ...env },
    ...user,
  })
  closeSync(output)
  const exited = once(child, 'exit')
  exited.catch(() => {})
  const { pid } = child
  if (!pid) throw new Error(`${file} did not start`)
  const end = async (signal: NodeJS.Signals) => {
    if (!isRunning(child)) return
    signalAll([-pid], signal)
    await exited
  }
  return {
    pid,
    signal: (signal) => signalAll([-pid], signal),
    end,
    async [Symbol.asyncDispose]() {
      signalAll([-pid], 'SIGCONT')
      await end('SIGKILL')
    },
  }
}

const isRunning = ({ exitCode, signalCode }: ChildProcess) =>
  exitCode === null && signalCode === null

/** Signals processes, or groups by their negative id; those that have ended are passed over. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}

/** A process and its children, which for PostgreSQL are each a group of their own. Linux only. */
export function familyOf(pid: number): number[] {
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => parentOf(name) === pid)
  return [pid, ...children.map(Number)]
}

function parentOf(pid: string): number | undefined {
  try {
    // The name of the program, in parentheses, may hold anything.
    return Number(/^.*\) \S (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1])
  } catch {
    return undefined
  }
}
