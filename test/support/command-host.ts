// Runs commands one after the other in one process, which loads the program once. What belongs to a
// process (signals, standard input, start and end) is tested with processes of their own.
import { runProgram } from '../../src/commands/program.ts'

export interface CommandRequest {
  readonly cwd: string
  readonly env: Record<string, string>
  readonly args: readonly string[]
}

const { PATH = '', HOME = '' } = process.env
const { log, error } = console

async function run({ cwd, env, args }: CommandRequest) {
  process.chdir(cwd)
  for (const name of Object.keys(process.env)) delete process.env[name]
  Object.assign(process.env, { PATH, HOME, ...env })
  let [stdout, stderr] = ['', '']
  console.log = (line: string) => {
    stdout += `${line}\n`
  }
  console.error = (line: string) => {
    stderr += `${line}\n`
  }
  try {
    const code = await runProgram(args, {
      write: (text) => {
        stdout += text
      },
      writeError: (text) => {
        stderr += text
      },
    })
    return { code, stdout, stderr }
  } finally {
    Object.assign(console, { log, error })
  }
}

// A command that left something open does not outlive the test file.
process.on('disconnect', () => process.exit())
process.on('message', async (request: CommandRequest) => {
  process.send?.(await run(request))
})
