import type { Command } from 'commander'
import { ConfigError } from '../config/config.ts'
import { examineEnvironment } from '../config/env.ts'
import { configWarnings } from '../config/proxies-config.ts'
import { command, printing } from './command.ts'
import { startProblems } from './start-problems.ts'
import { asFacts } from './table.ts'

/** `holdfast config`: what the environment says. */
export function configCommand(): Command {
  const config = command('config', 'What the environment configures.', 'config check')
  config.addCommand(
    printing(
      command(
        'check',
        'Check that a server can start here: variables, files, ports, database. Shows every variable without its secret.',
      ),
      check,
      ({ warnings, variables }) =>
        [
          asFacts(
            'The configuration is right.',
            Object.entries(variables).map(([name, value]) => [name, value ?? 'not set']),
          ),
          ...warnings.map((warning) => `Warning: ${warning}`),
        ].join('\n\n'),
    ),
  )
  return config
}

async function check() {
  const { config, problems, shown } = examineEnvironment()
  const all = [...problems, ...(await startProblems(config))]
  if (all.length > 0) throw new ConfigError(all)
  const variables = Object.fromEntries(
    Object.entries(shown).map(([name, value]) => [name, value ?? null]),
  )
  return { warnings: configWarnings(config), variables }
}
