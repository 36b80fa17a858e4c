import { stripVTControlCharacters } from 'node:util'
import { runProgram } from '../../src/commands/program.ts'
import type { Finished } from './cli.ts'

/**
 * Runs `holdfast` in this process, which is much faster than a process of its own. One at a time:
 * the output is what the process prints meanwhile, and `env` is its environment.
 */
export async function command(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Finished> {
  const { env: before } = process
  process.env = { ...env }
  const printed = { stdout: '', stderr: '' }
  const { log, error } = console
  const note = (name: 'stdout' | 'stderr') => (text: string) => {
    printed[name] += stripVTControlCharacters(text)
  }
  console.log = (text: string) => note('stdout')(`${text}\n`)
  console.error = (text: string) => note('stderr')(`${text}\n`)
  try {
    const terminal = { write: note('stdout'), writeError: note('stderr') }
    return { code: await runProgram(args, terminal), ...printed }
  } finally {
    process.env = before
    Object.assign(console, { log, error })
  }
}
