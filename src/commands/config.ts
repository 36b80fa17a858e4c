import type { Command } from 'commander'
import type { Config } from '../config/config.ts'
import { readConfig } from '../config/env.ts'
import { command, printing } from './command.ts'
import { asFacts } from './table.ts'

/** `holdfast config`: what the environment says. */
export function configCommand(): Command {
  const config = command('config', 'What the environment configures.', 'config check')
  config.addCommand(
    printing(
      command('check', 'Check the configuration, and show it without its secrets.'),
      async () => withoutSecrets(readConfig()),
      (checked) =>
        asFacts(
          'The configuration is right.',
          Object.entries(checked).map(([name, value]) => [
            name,
            typeof value === 'string' ? value : JSON.stringify(value ?? null),
          ]),
        ),
    ),
  )
  return config
}

function withoutSecrets({ databaseUrl, secret, previousSecret, ...config }: Config) {
  const url = databaseUrl === undefined ? undefined : URL.parse(databaseUrl)
  return {
    ...config,
    database: url ? `${url.host}${url.pathname}` : 'embedded',
    secret: secret === undefined ? 'in the data folder' : 'set',
    previousSecret: previousSecret === undefined ? 'none' : 'set',
  }
}
