import { Command } from 'commander'
import { printing, withStorage } from './command.ts'

/** `holdfast migrate`: brings the database schema up to this release. */
export function migrateCommand(): Command {
  return printing(
    new Command('migrate').description('bring the database schema up to this release'),
    () => withStorage(async ({ migrated }) => ({ applied: migrated })),
    ({ applied }) =>
      applied.length === 0 ? 'The schema is up to date.' : `Applied ${applied.join(', ')}.`,
  )
}
