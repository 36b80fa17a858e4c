import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import type { TestFn } from 'ava'
import type { CommandRequest } from './command-host.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
// Every test starts the same program.
const compileCache = fileURLToPath(new URL('../../node_modules/.cache/node', import.meta.url))

/** Tests of several say so. Other releases may not know the variable. */
const oneWorker = { HOLDFAST_WORKERS: '1' }

/** The packages of this repository are used as their sources. */
export const fromSources = '--conditions=@holdfast/source'

export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Environment {
  /** The current folder: one without a file .env. */
  readonly cwd: string
  readonly env: Record<string, string>
  /** The root of another release. */
  readonly release?: string | undefined
}

/** Runs `holdfast` as a shell does, with nothing in its environment but `env`. */
export async function holdfast(
  environment: Environment,
  args: readonly string[],
  { stdin = '' }: { stdin?: string } = {},
): Promise<Finished> {
  const child = start(environment, args)
  child.stdin?.end(stdin)
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout as NodeJS.ReadableStream),
    text(child.stderr as NodeJS.ReadableStream),
    once(child, 'exit'),
  ])
  return { code, stdout, stderr }
}

/** Runs commands as `holdfast` does, all of a test file in one process: they are loaded once. */
export function useCommandLine(test: TestFn): typeof holdfast {
  let host: { process: ChildProcess; ended: Promise<never> } | undefined
  let last: Promise<unknown> = Promise.resolve()
  test.after.always(() => host?.process.disconnect())

  async function ask(request: CommandRequest): Promise<Finished> {
    host ??= startCommandHost()
    const answered = once(host.process, 'message')
    host.process.send(request)
    const [finished] = await Promise.race([answered, host.ended])
    return finished
  }

  return (environment, args, options = {}) => {
    const { cwd, env, release } = environment
    if (options.stdin !== undefined || release) return holdfast(environment, args, options)
    const finished = last.then(() => ask({ cwd, env, args }))
    last = finished.catch(() => {})
    return finished
  }
}

function startCommandHost() {
  const host = fork(path.join(import.meta.dirname, 'command-host.ts'), {
    execArgv: [fromSources],
    // It would keep ava's pipes open if it outlived its test file.
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  })
  const ended = once(host, 'exit').then(([code]): never => {
    throw new Error(`the process of the commands ended with ${code}`)
  })
  ended.catch(() => {})
  return { process: host, ended }
}

export interface Serving {
  readonly pid: number
  /** What it printed by the time it was ready. */
  readonly welcome: string
  /** The value of a line of the welcome. */
  printed(name: string): string | undefined
  /** What it has written to standard error so far. */
  errors(): string
  signal(signal: NodeJS.Signals): void
  end(signal: NodeJS.Signals): Promise<Finished>
}

/** Runs `holdfast serve` until it says that it is ready. */
export async function serve(environment: Environment): Promise<Serving> {
  const child = start(environment, ['serve'])
  // After all that it has written was read.
  const exited = once(child, 'close')
  let stdout = ''
  let errors = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    errors += chunk
  })
  const { promise: ready, resolve } = Promise.withResolvers<void>()
  child.stdout?.on('data', (chunk: Buffer) => {
    stdout += chunk
    if (stdout.includes('Ctrl-C')) resolve()
  })
  await Promise.race([ready, exited])
  if (!stdout.includes('Ctrl-C')) throw new Error(`it did not serve: ${errors}`)
  const welcome = stripVTControlCharacters(stdout)
  return {
    pid: child.pid as number,
    welcome,
    printed: (name) => new RegExp(`^ +${name} +(\\S+)`, 'm').exec(welcome)?.[1],
    errors: () => errors,
    signal: (signal) => child.kill(signal),
    async end(signal) {
      child.kill(signal)
      const [code] = await exited
      return { code, stdout, stderr: errors }
    },
  }
}

export function start(
  { cwd, env, release = root }: Environment,
  args: readonly string[],
): ChildProcess {
  const { PATH = '', HOME = '' } = process.env
  const isThis = release === root
  return spawn(process.execPath, [fromSources, path.join(release, 'bin/holdfast.cjs'), ...args], {
    cwd,
    env: { PATH, HOME, NODE_COMPILE_CACHE: compileCache, ...(isThis && oneWorker), ...env },
  })
}
