import type { Command } from 'commander'
import type { Config } from '../config/config.ts'
import { readConfig } from '../config/env.ts'
import { configWarnings } from '../config/proxies-config.ts'
import { command, printing } from './command.ts'
import { asFacts } from './table.ts'

const hour = 60 * 60 * 1000
const day = 24 * hour

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
          Object.entries(checked).flatMap(([name, value]) => facts(name, value)),
        ),
    ),
  )
  return config
}

/** Each setting on a line of its own. */
function facts(name: string, value: unknown): [name: string, value: string][] {
  if (value === undefined || value === null || value === '') return [[name, 'none']]
  if (Array.isArray(value)) return [[name, value.length === 0 ? 'none' : value.join(' ')]]
  if (typeof value !== 'object') return [[name, String(value)]]
  return Object.entries(value).flatMap(([member, of]) => facts(`${name}.${member}`, of))
}

function withoutSecrets({ databaseUrl, secret, previousSecret, keys, ...config }: Config) {
  const warnings = configWarnings(config)
  const url = databaseUrl === undefined ? undefined : URL.parse(databaseUrl)
  return {
    ...(warnings.length > 0 && { warnings }),
    ...config,
    // As the variables say it: 0 is never.
    keys: {
      rotationDays: Number.isFinite(keys.rotation) ? keys.rotation / day : 0,
      publishHours: keys.publish / hour,
      pollSeconds: keys.poll / 1000,
    },
    database: url ? `${url.host}${url.pathname}` : 'embedded',
    secret: secret === undefined ? 'in the data folder' : 'set',
    previousSecret: previousSecret === undefined ? 'none' : 'set',
  }
}
