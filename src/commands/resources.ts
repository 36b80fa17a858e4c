import { Command } from 'commander'
import { printing, withAdministration } from './command.ts'
import { asTable } from './table.ts'

/** `holdfast resources`: the APIs that access tokens can be made for (RFC 8707). */
export function resourcesCommand(): Command {
  const resources = new Command('resources').description('APIs that access tokens are made for')

  printing(
    resources
      .command('add <identifier>')
      .description('register an API by the URI that clients send as resource')
      .requiredOption('--scope <scope...>', 'the scopes it knows')
      .option('--name <name>', 'a name for people'),
    (identifier: string, { scope, name }: { scope: string[]; name?: string }) =>
      withAdministration((administration) =>
        administration.resources.add({ identifier, name: name ?? null, scopes: scope }),
      ),
    ({ identifier, scopes }) => `Registered ${identifier} with ${scopes.join(', ')}.`,
  )

  printing(
    resources.command('list').description('list all APIs'),
    () => withAdministration((administration) => administration.resources.list()),
    (list) =>
      list.length === 0
        ? 'There are no APIs. Add one with: holdfast resources add URI --scope SCOPE'
        : asTable(
            ['Identifier', 'Name', 'Scopes'],
            list.map(({ identifier, name, scopes }) => [identifier, name ?? '', scopes.join(' ')]),
          ),
  )

  printing(
    resources.command('remove <identifier>').description('make no more tokens for an API'),
    (identifier: string) =>
      withAdministration((administration) =>
        administration.resources.remove(identifier).then(() => ({ identifier })),
      ),
    ({ identifier }) => `Removed ${identifier}.`,
  )

  return resources
}
