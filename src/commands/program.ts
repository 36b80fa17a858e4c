import { inspect } from 'node:util'
import { type Command, CommanderError } from 'commander'
import { AdministrationError } from '../administration/administration-error.ts'
import { version } from '../config/version.ts'
import { accountsCommand } from './accounts.ts'
import { auditCommand } from './audit.ts'
import { claimsCommand } from './claims.ts'
import { clientsCommand } from './clients.ts'
import { command, explain, UsageError } from './command.ts'
import { configCommand } from './config.ts'
import { doctorCommand } from './doctor.ts'
import { gateCommand } from './gate.ts'
import { invitationsCommand } from './invitations.ts'
import { keysCommand } from './keys.ts'
import { mailCommand } from './mail.ts'
import { migrateCommand } from './migrate.ts'
import { openapiCommand } from './openapi.ts'
import { drawProgressOn } from './progress.ts'
import { proofCommand } from './proof.ts'
import { registrationTokensCommand } from './registration-tokens.ts'
import { resourcesCommand } from './resources.ts'
import { serveCommand } from './serve.ts'
import { sessionsCommand } from './sessions.ts'
import { tokensCommand } from './tokens.ts'

export interface Terminal {
  write(text: string): void
  writeError(text: string): void
  /** Where progress is drawn, if it is a terminal. */
  readonly progress?: NodeJS.WriteStream | undefined
  /** Whether the output goes to a file: only then is progress drawn beside JSON. */
  readonly toFile?: boolean
}

/** Runs `holdfast` with arguments, and returns its exit code. */
export async function runProgram(args: readonly string[], terminal: Terminal): Promise<number> {
  let code = 0
  const ended = (given: number) => {
    code = given
  }
  try {
    await createProgram(terminal, ended).parseAsync(args, { from: 'user' })
    return code
  } catch (error) {
    // What is wrong was written. commander's own code is 1; 2 is what shells expect.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    terminal.writeError(`holdfast: ${explain(error) ?? inspect(error)}\n`)
    return isWrongUsage(error) ? 2 : 1
  }
}

function isWrongUsage(error: unknown): boolean {
  if (error instanceof AdministrationError) return error.code === 'invalid_request'
  return error instanceof UsageError
}

/**
 * All commands of `holdfast`.
 *
 * @param ended gets the exit code of a command that has one of its own.
 */
export function createProgram(
  { write, writeError, progress, toFile = false }: Terminal,
  ended: (code: number) => void = () => {},
): Command {
  const program = command(
    'holdfast',
    'An OpenID Connect provider that binds every token to a key.',
    'serve',
    'accounts add ada@example.com',
    'clients add web-shop --redirect-uri https://shop.example.com/callback',
  )
    .version(version, '-V, --version', 'show the version')
    .addCommand(serveCommand())
    .addCommand(accountsCommand())
    .addCommand(claimsCommand())
    .addCommand(clientsCommand())
    .addCommand(invitationsCommand())
    .addCommand(registrationTokensCommand())
    .addCommand(resourcesCommand())
    .addCommand(sessionsCommand())
    .addCommand(tokensCommand())
    .addCommand(keysCommand())
    .addCommand(mailCommand())
    .addCommand(auditCommand())
    .addCommand(configCommand())
    .addCommand(migrateCommand())
    .addCommand(openapiCommand())
    .addCommand(doctorCommand())
    .addCommand(gateCommand({ write, writeError }, ended))
    .addCommand(proofCommand())
    .addHelpText(
      'after',
      `
Exit codes:
  0  done
  1  failed, with a sentence on standard error
  2  wrong usage

Configure it with environment variables or a file .env. See .env.example for all of them.`,
    )
  program.hook('preAction', (_program, action) => {
    const { json = false } = action.optsWithGlobals<{ json?: boolean }>()
    drawProgressOn(json && !toFile ? undefined : progress)
  })
  for (const each of withSubcommands(program)) {
    each
      .exitOverride()
      .configureOutput({
        writeOut: write,
        writeErr: writeError,
        outputError: (text) => writeError(asSentence(text)),
      })
      .showHelpAfterError(`Try: ${pathOf(each)} --help`)
  }
  return program
}

function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)]
}

function pathOf(command: Command): string {
  return command.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name()
}

function asSentence(text: string): string {
  return text.replace(/^error: (.)/, (_, first: string) => `holdfast: ${first.toUpperCase()}`)
}
