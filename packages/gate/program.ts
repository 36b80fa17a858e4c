/** The command `holdfast-gate`. */
import cluster from 'node:cluster'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { Command, CommanderError } from 'commander'
import { ConfigError } from './config.ts'
import { createLines } from './lines.ts'
import { loadConfig } from './load.ts'
import { obey, supervise } from './replacing.ts'
import { runGate } from './running.ts'
import { asksForTraces, startTracing } from './traces.ts'

/** Where a command writes. */
export type Terminal = Readonly<{
  write(text: string): void
  writeError(text: string): void
}>

/** Runs the command with arguments, and returns its exit code. */
export async function runProgram(args: readonly string[], terminal: Terminal): Promise<number> {
  try {
    await createProgram(terminal).parseAsync(args, { from: 'user' })
    return 0
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    if (error instanceof ConfigError) {
      for (const problem of error.problems) terminal.writeError(`${problem}\n`)
      return 1
    }
    terminal.writeError(`holdfast-gate: ${(error as Error).message}\n`)
    return 1
  }
}

/** All commands. */
export function createProgram({ write, writeError }: Terminal): Command {
  const program = new Command('holdfast-gate')
    .description(
      'A reverse proxy that verifies key-bound tokens and forwards requests that stay bound.',
    )
    .exitOverride()
    .configureOutput({ writeOut: write, writeErr: writeError })
  const file = ['-c, --config <file>', 'the configuration file', 'gate.yaml'] as const

  program
    .command('serve', { isDefault: true })
    .description('Run the gate until SIGTERM. It follows changes of its files.')
    .option(...file)
    .option('--replaceable', 'let SIGUSR2 replace the process that serves, without an outage')
    .action(({ config, replaceable = false }: { config: string; replaceable?: boolean }) =>
      replaceable && cluster.isPrimary ? supervise(writeError) : serve(config, writeError),
    )
  program
    .command('check')
    .description('Check the configuration and every file that it names.')
    .option(...file)
    .action(async ({ config }: { config: string }) => {
      const { config: checked } = await loadConfig(config)
      const origins = checked.applications.map(({ origin, mode }) => `${origin} (${mode})`)
      write(`${config} is valid: ${origins.join(', ')}\n`)
    })
  program
    .command('key <file>')
    .description('Write a new signing key (Ed25519, PEM) to a file that does not exist.')
    .action(async (target: string) => {
      const { privateKey } = generateKeyPairSync('ed25519')
      const pem = privateKey.export({ type: 'pkcs8', format: 'pem' })
      await writeFile(target, pem, { mode: 0o600, flag: 'wx' })
      write(`${target} has a new key. Name it in signing.keyFiles.\n`)
    })
  program
    .command('secret <file>')
    .description('Write a new secret for browsers.secretFiles to a file that does not exist.')
    .action(async (target: string) => {
      const secret = `${randomBytes(32).toString('base64url')}\n`
      await writeFile(target, secret, { mode: 0o600, flag: 'wx' })
      write(`${target} has a new secret. Name it in browsers.secretFiles, for all replicas.\n`)
    })
  program
    .command('client-key <file>')
    .description(
      'Write a new key for openid.clientKeyFile (P-256, PEM), and print its public part.',
    )
    .action(async (target: string) => {
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      const pem = privateKey.export({ type: 'pkcs8', format: 'pem' })
      await writeFile(target, pem, { mode: 0o600, flag: 'wx' })
      const jwk = { ...publicKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig' }
      write(`${JSON.stringify({ keys: [jwk] })}\n`)
    })
  for (const each of program.commands) each.exitOverride().copyInheritedSettings(program)
  return program
}

async function serve(config: string, writeError: (text: string) => void): Promise<void> {
  const isReplaceable = cluster.isWorker
  await using _traces = asksForTraces(process.env) ? await startTracing() : undefined
  const onEvent = createLines(writeError)
  await using gate = await runGate(config, { onEvent, isReplaceable })
  writeError(`${JSON.stringify({ type: 'listening', port: gate.port })}\n`)
  if (isReplaceable) {
    await obey(gate)
    return
  }
  const stopped = new AbortController()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stopped.abort())
  process.on('SIGHUP', () => void gate.reload())
  await once(stopped.signal, 'abort')
}
