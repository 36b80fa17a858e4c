import type { Command } from 'commander'
import { checkResource } from '../administration/resources.ts'
import { command, printing, withAdministration } from './command.ts'
import { asFacts, asTable } from './table.ts'

/** `holdfast resources`: the APIs that access tokens can be made for (RFC 8707). */
export function resourcesCommand(): Command {
  const resources = command(
    'resources',
    'APIs that access tokens are made for (RFC 8707).',
    'resources add https://api.example.com --scope read write',
    'resources list',
  )

  resources.addCommand(
    printing(
      command(
        'add <identifier>',
        'Register an API by the URI that clients send as resource.',
        'resources add https://api.example.com --scope read write --name Orders',
      )
        .requiredOption('--scope <scope...>', 'the scopes it knows')
        .option('--name <name>', 'a name for people'),
      async (identifier: string, { scope, name }: { scope: string[]; name?: string }) => {
        const resource = { identifier, name: name ?? null, scopes: scope }
        // What is wrong with what was typed is said before a database is looked for.
        checkResource(resource)
        return withAdministration(({ resources }) => resources.add(resource))
      },
      ({ identifier, scopes }) =>
        asFacts(`Registered ${identifier}.`, [['Scopes', scopes.join(' ')]]),
    ),
  )

  resources.addCommand(
    printing(
      command('list', 'List all APIs.'),
      () => withAdministration((administration) => administration.resources.list()),
      (list) =>
        list.length === 0
          ? 'There are no APIs. Add one with: holdfast resources add URI --scope SCOPE'
          : asTable(
              ['Identifier', 'Name', 'Scopes'],
              list.map(({ identifier, name, scopes }) => [
                identifier,
                name ?? '',
                scopes.join(' '),
              ]),
            ),
    ),
  )

  resources.addCommand(
    printing(
      command(
        'remove <identifier>',
        'Make no more tokens for an API.',
        'resources remove https://api.example.com',
      ),
      (identifier: string) =>
        withAdministration((administration) =>
          administration.resources.remove(identifier).then(() => ({ identifier })),
        ),
      ({ identifier }) => `Removed ${identifier}.`,
    ),
  )

  return resources
}
