import type { Command } from 'commander'
import { command, printing, withStorage } from './command.ts'

/** `holdfast migrate`: brings the database schema up to this release. */
export function migrateCommand(): Command {
  return printing(
    command(
      'migrate',
      'Bring the database schema up to this release. Serving does so as well.',
      'migrate',
    ),
    () => withStorage(async ({ migrated }) => ({ applied: migrated })),
    ({ applied }) =>
      applied.length === 0 ? 'The schema is up to date.' : `Applied ${applied.join(', ')}.`,
  )
}
