import { setTimeout } from 'node:timers/promises'
import type { Command } from 'commander'
import type { Config } from '../config/config.ts'
import { createLog, logLostConnection } from '../observability/log.ts'
import type { Storage } from '../storage/open-storage.ts'
import { command, withStorage } from './command.ts'
import { recordFirstSteps } from './first-steps.ts'
import type { Progress } from './progress.ts'
import { listenForStop } from './stop-signals.ts'
import { type WelcomeFacts, welcome } from './welcome.ts'

/** `holdfast serve`: the identity provider until a signal ends it. */
export function serveCommand(): Command {
  return command(
    'serve',
    'Run the identity provider until Ctrl-C.',
    'serve',
    'serve 2> holdfast.log',
  ).action(() =>
    withStorage(serve, {
      migrates: true,
      onError: (error, { logLevel }) => logLostConnection(createLog(logLevel), error),
    }),
  )
}

/** A node that serves, of one process or several. */
export interface ServingNode extends AsyncDisposable {
  readonly facts: WelcomeFacts
  drain(): void
  /** Rejects when the node cannot continue. */
  readonly failed?: Promise<never>
}

async function serve(storage: Storage, config: Config, progress: Progress): Promise<void> {
  await using node =
    config.operations.workers === 1
      ? await startHere(storage, config, progress)
      : await startWorkers(config, progress)
  // Before it says that it is ready: a signal may come at once.
  const signals = listenForStop()
  const stopped = signals.next()
  console.log(welcome(node.facts))
  const { failed = new Promise<never>(() => {}) } = node
  await Promise.race([stopped, failed])
  node.drain()
  const { drainSeconds } = config.operations
  if (drainSeconds > 0) {
    console.log(`\nServing for ${drainSeconds} seconds more.`)
    // The server keeps the process until then; after a second signal nothing does.
    await Promise.race([signals.next(), setTimeout(drainSeconds * 1000, undefined, { ref: false })])
  }
  console.log('\nFinishing requests.')
}

async function startHere(
  storage: Storage,
  config: Config,
  progress: Progress,
): Promise<ServingNode> {
  // Its lines go to the same terminal.
  progress.rest()
  const log = createLog(config.logLevel)
  const { startServer } = await import('../server.ts')
  await using opened = new AsyncDisposableStack()
  const server = opened.use(await startServer(config, storage, log, { onStep: progress.report }))
  const firstSteps = await recordFirstSteps(config, storage, server)
  const { issuer, authorityFile } = server
  const open = opened.move()
  return {
    facts: { issuer, authorityFile, firstSteps },
    drain: () => server.drain(),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

async function startWorkers(config: Config, progress: Progress): Promise<ServingNode> {
  progress.rest()
  const { serveByWorkers } = await import('./serve-workers.ts')
  return serveByWorkers(config)
}
