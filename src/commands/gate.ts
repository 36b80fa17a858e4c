import type { Command } from 'commander'
import { CommandError, command } from './command.ts'

/** A package of its own: a server without a gate does without its dependencies. */
const gatePackage = '@holdfast/gate'

/** What the package exports for this command. */
interface GateModule {
  /** Returns the exit code; what is wrong was written. */
  runProgram(args: readonly string[], terminal: GateTerminal): Promise<number>
}

interface GateTerminal {
  write(text: string): void
  writeError(text: string): void
}

/**
 * `holdfast gate`: leads to `holdfast-gate` of `@holdfast/gate`, where that is installed.
 *
 * @param ended gets the exit code.
 */
export function gateCommand(
  terminal: GateTerminal,
  ended: (code: number) => void,
  resolve: (name: string) => string = import.meta.resolve,
): Command {
  return command(
    'gate [arguments...]',
    'Run the gate, a reverse proxy for applications (docs/gate.md). The arguments are those of holdfast-gate.',
    'gate check --config gate.yaml',
    'gate serve --config gate.yaml',
  )
    .allowUnknownOption()
    .action(async (_operands: string[], _options: unknown, { args }: Command) => {
      const { runProgram } = await loadGate(resolve)
      ended(await runProgram(args, terminal))
    })
}

async function loadGate(resolve: (name: string) => string): Promise<GateModule> {
  let address: string
  try {
    address = resolve(gatePackage)
  } catch (cause) {
    throw new CommandError(`The gate is a package of its own: npm install ${gatePackage}.`, {
      cause,
    })
  }
  return (await import(address)) as GateModule
}
