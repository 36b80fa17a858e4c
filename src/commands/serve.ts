import { once } from 'node:events'
import { styleText } from 'node:util'
import { Command } from 'commander'
import { createLog } from '../observability/log.ts'
import { type RunningServer, startServer } from '../server.ts'
import { withStorage } from './command.ts'
import { type FirstSteps, takeFirstSteps } from './first-steps.ts'

/** `holdfast serve`: the identity provider until a signal ends it. */
export function serveCommand(): Command {
  return new Command('serve').description('run the identity provider until Ctrl-C').action(() =>
    withStorage(async (storage, config) => {
      const log = createLog(config.logLevel)
      await using server = await startServer(config, storage, log)
      console.log(welcome(server, await takeFirstSteps(storage, server.provider)))
      await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
      console.log('\nFinishing requests.')
    }),
  )
}

function welcome({ issuer, authorityFile }: RunningServer, { account, clientId }: FirstSteps) {
  const rows = [
    ['Issuer', styleText('bold', issuer)],
    ['Metadata', `${issuer}/.well-known/openid-configuration`],
    ...(authorityFile ? [['Trust', `NODE_EXTRA_CA_CERTS=${authorityFile}`]] : []),
    ...(account
      ? [
          ['Account', account.email],
          ['Password', `${styleText('bold', account.password)}  (shown this once)`],
        ]
      : []),
    ...(clientId
      ? [['Client', `${clientId}  (public, DPoP, redirects to http://127.0.0.1:*/callback)`]]
      : []),
  ]
  return [
    styleText('green', 'Holdfast is ready.'),
    '',
    ...rows.map(([name = '', value]) => `  ${name.padEnd(10)}${value}`),
    '',
    'Ctrl-C stops it.',
  ].join('\n')
}
