import { setTimeout } from 'node:timers/promises'
import { styleText } from 'node:util'
import type { Command } from 'commander'
import type { Config } from '../config/config.ts'
import { createLog } from '../observability/log.ts'
import type { RunningServer } from '../server.ts'
import type { Storage } from '../storage/open-storage.ts'
import { command, withStorage } from './command.ts'
import { type FirstSteps, takeFirstSteps } from './first-steps.ts'
import type { Progress } from './progress.ts'
import { listenForStop } from './stop-signals.ts'
import { asFacts } from './table.ts'

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
      onError: (error, { logLevel }) =>
        createLog(logLevel).warn(
          { event: 'database.connection_lost', err: error },
          'an idle connection to the database broke',
        ),
    }),
  )
}

async function serve(storage: Storage, config: Config, progress: Progress): Promise<void> {
  const log = createLog(config.logLevel)
  // Its lines go to the same terminal.
  progress.rest()
  const { startServer } = await import('../server.ts')
  await using server = await startServer(config, storage, log, { onStep: progress.report })
  const firstSteps = await takeFirstSteps(
    config,
    storage,
    server.provider,
    (change, about, details) =>
      server.events.recordChange({ actor: 'server', ...about }, change, details, { first: true }),
  )
  // Before it says that it is ready: a signal may come at once.
  const signals = listenForStop()
  const stopped = signals.next()
  console.log(welcome(server, firstSteps))
  await stopped
  server.drain()
  const { drainSeconds } = config.operations
  if (drainSeconds > 0) {
    console.log(`\nServing for ${drainSeconds} seconds more.`)
    // The server keeps the process until then; after a second signal nothing does.
    await Promise.race([signals.next(), setTimeout(drainSeconds * 1000, undefined, { ref: false })])
  }
  console.log('\nFinishing requests.')
}

function welcome(
  { issuer, authorityFile }: RunningServer,
  { account, hasAccounts, clientId }: FirstSteps,
) {
  const facts: [string, string][] = [
    ['Issuer', styleText('bold', issuer)],
    ['Metadata', `${issuer}/.well-known/openid-configuration`],
  ]
  if (authorityFile) facts.push(['Trust', `NODE_EXTRA_CA_CERTS=${authorityFile}`])
  if (account) {
    facts.push(['Account', account.email])
    facts.push(['Password', `${styleText('bold', account.password)}  (shown this once)`])
  }
  if (!hasAccounts) facts.push(['Accounts', 'none: "holdfast accounts add EMAIL" adds one'])
  if (clientId) {
    facts.push(['Client', `${clientId}  (public, DPoP, redirects to http://127.0.0.1:*/callback)`])
  }
  return `${asFacts(styleText('green', 'Holdfast is ready.'), facts)}\n\nCtrl-C stops it.`
}
