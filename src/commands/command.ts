import { userInfo } from 'node:os'
import { TokenBindingTlsError } from '@holdfast/token-binding-tls'
import { Command } from 'commander'
import pg from 'pg'
import { AccountError } from '../accounts/account-error.ts'
import {
  type Administration,
  createAdministration,
  createReadings,
  type Readings,
} from '../administration/administration.ts'
import { AdministrationError } from '../administration/administration-error.ts'
import { CertificateFileError } from '../certificates/certificate-file-error.ts'
import { loadClientAuthorities } from '../certificates/client-authorities.ts'
import { RegistrationError } from '../clients/client-registration.ts'
import { type Config, ConfigError } from '../config/config.ts'
import { readConfig } from '../config/env.ts'
import { authorityFiles } from '../config/mtls-config.ts'
import { SecretError } from '../config/secret-error.ts'
import { isComplete, makeTemporaryKeys } from '../keys/key-ring.ts'
import { createOutbox } from '../mail/outbox.ts'
import { ListenError } from '../net/listen-error.ts'
import { createLog } from '../observability/log.ts'
import { createObservability } from '../observability/observability.ts'
import { openKeys } from '../open-keys.ts'
import { DatabaseUnavailableError } from '../storage/database-unavailable.ts'
import { openStorage, type Storage } from '../storage/open-storage.ts'
import { StorageError } from '../storage/storage-error.ts'
import { WorkerStartError } from '../workers/worker-process.ts'
import { type Progress, showProgress } from './progress.ts'

/** What was typed contradicts itself or cannot be meant. The message is a sentence. */
export class UsageError extends Error {
  override name = 'UsageError'
}

/** What was asked for cannot be done. The message is a sentence. */
export class CommandError extends Error {
  override name = 'CommandError'
}

/** A command with a description, and with examples below its help. */
export function command(usage: string, description: string, ...examples: string[]): Command {
  const made = new Command(usage.split(' ')[0])
    .description(description)
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: false })
    .helpOption('-h, --help', 'show this help')
  const [, ...args] = usage.split(' ')
  for (const argument of args) made.argument(argument)
  if (examples.length > 0) {
    const lines = examples.map((example) => `  $ holdfast ${example}`)
    made.addHelpText('after', ['', 'Examples:', ...lines].join('\n'))
  }
  return made
}

interface StorageUse {
  /** Whether a missing or older schema is migrated. Otherwise it is an error: nothing is changed. */
  migrates?: boolean
  onError?: (error: Error, config: Config) => void
}

/**
 * Runs work on the storage that the environment configures, and closes it. The progress shows what
 * takes long; before the work prints anything itself, it lets it rest.
 */
export async function withStorage<T>(
  work: (storage: Storage, config: Config, progress: Progress) => Promise<T>,
  { migrates = false, onError = printError }: StorageUse = {},
): Promise<T> {
  const config = readConfig()
  using progress = showProgress()
  await using storage = await openStorage({
    ...config,
    connections: config.operations.connectionsPerWorker,
    tracing: config.operations.tracing,
    migrates,
    onError: (error) => onError(error, config),
    onStep: progress.report,
    onNotice: (sentence) => console.error(`holdfast: ${sentence}`),
  })
  // What a command does is one statement or a few: how far one is, PostgreSQL does not say.
  progress.report('Waiting for the database', 0, 0)
  return await work(storage, config, progress)
}

function printError({ message }: Error): void {
  console.error(`holdfast: ${message}`)
}

/** Runs work that only reads: it needs no keys of the installation, and makes none. */
export async function withReadings<T>(work: (readings: Readings) => Promise<T>): Promise<T> {
  return withStorage((storage) => work(createReadings(storage)))
}

/**
 * Runs administrative work, and writes it to the audit trail before the storage is closed. Keys that
 * are missing are left to `serve` and `migrate`.
 */
export async function withAdministration<T>(
  work: (administration: Administration, progress: Progress) => Promise<T>,
): Promise<T> {
  return withStorage(async (storage, config, progress) => {
    const { report } = progress
    // What was done is printed: the log is for what a server does unasked.
    await using observability = createObservability({ log: createLog('silent'), storage })
    const { events } = observability
    const actor = actorOfCommand()
    const keys = await openKeys({ config, storage, events, actor, makes: false })
    report('Waiting for the database', 0, 0)
    const files = authorityFiles(config.mtls)
    const authorities = files && (await loadClientAuthorities(files))
    // The server is loaded by the commands that need it: the others start in half the time.
    const { createIdentityProvider } = await import('../identity-provider.ts')
    const { Client } = createIdentityProvider(config, storage, observability, {
      keys: isComplete(keys.view()) ? keys : { ...keys, ...(await makeTemporaryKeys()) },
      authorities,
    })
    return await work(
      createAdministration({
        issuer: config.issuer,
        storage,
        keys: { ring: keys, publish: config.keys.publish },
        validator: { Client, profile: config.protocol.profile },
        outbox: config.mail && createOutbox({ table: storage.mail, vault: keys.vault }),
        events,
        context: { actor },
      }),
      progress,
    )
  })
}

/** The person at the terminal, for the audit trail. */
export function actorOfCommand(user: () => { username: string } = userInfo): string {
  try {
    return `command line of ${user().username}`
  } catch {
    // In a container, for instance, a user may have no name.
    return `command line of user ${process.getuid?.() ?? 'unknown'}`
  }
}

/** A sentence for an error that a person can do something about; undefined for a defect. */
export function explain(error: unknown): string | undefined {
  if (error instanceof ConfigError) {
    const [first, ...more] = error.problems
    if (more.length === 0) return first
    return [
      `The configuration has ${error.problems.length} errors:`,
      ...error.problems.map((problem) => `  ${problem}`),
    ].join('\n')
  }
  if (error instanceof DatabaseUnavailableError) {
    return `The database does not answer now (${error.reason}). Try again in a moment.`
  }
  if (isRefusedToUser(error)) {
    return `PostgreSQL denied this to the user in DATABASE_URL: ${error.message}.`
  }
  // It was explained by the process that failed.
  if (error instanceof WorkerStartError) return error.message
  const known = [
    SecretError,
    StorageError,
    ListenError,
    CertificateFileError,
    TokenBindingTlsError,
    AccountError,
    AdministrationError,
    RegistrationError,
    CommandError,
    UsageError,
  ]
  if (!known.some((Known) => error instanceof Known)) return undefined
  return (error as Error).message.replace(/[^.]$/, '$&.')
}

/** `insufficient_privilege`. */
function isRefusedToUser(error: unknown): error is pg.DatabaseError {
  return error instanceof pg.DatabaseError && error.code === '42501'
}

/** Adds `--json` and prints what the command returns in either form. */
export function printing<Arguments extends unknown[], Result>(
  command: Command,
  run: (...args: Arguments) => Promise<Result>,
  asText: (result: Result) => string,
): Command {
  return command.option('--json', 'print JSON').action(async (...args: unknown[]) => {
    const result = await run(...(args as Arguments))
    // A command above it may have the same option, and takes it wherever it stands.
    const { json } = command.optsWithGlobals<{ json?: boolean }>()
    console.log(json ? JSON.stringify(result, null, 2) : asText(result))
  })
}
