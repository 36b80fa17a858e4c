import type { Command } from 'commander'
import { CommandError, command, printing, UsageError, withStorage } from './command.ts'
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
        const resource = {
          identifier: checkIdentifier(identifier),
          name: name ?? null,
          scopes: checkScopes(scope),
        }
        const added = await withStorage(({ resourceServers }) => resourceServers.insert(resource))
        if (!added) throw new CommandError(`${identifier} is registered already.`)
        return resource
      },
      ({ identifier, scopes }) =>
        asFacts(`Registered ${identifier}.`, [['Scopes', scopes.join(' ')]]),
    ),
  )

  resources.addCommand(
    printing(
      command('list', 'List all APIs.'),
      () => withStorage(({ resourceServers }) => resourceServers.list()),
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
      async (identifier: string) => {
        const removed = await withStorage(({ resourceServers }) =>
          resourceServers.remove(identifier),
        )
        if (!removed) throw new CommandError(`There is no API ${identifier}.`)
        return { identifier }
      },
      ({ identifier }) => `Removed ${identifier}.`,
    ),
  )

  return resources
}

/** RFC 8707 section 2: an absolute URI without a fragment. */
function checkIdentifier(identifier: string): string {
  if (!URL.canParse(identifier) || identifier.includes('#')) {
    throw new UsageError(`${identifier} is not an absolute URI without a fragment (RFC 8707).`)
  }
  return identifier
}

/** RFC 6749 section 3.3. */
function checkScopes(scopes: string[]): string[] {
  const wrong = scopes.find((scope) => !/^[\x21\x23-\x5b\x5d-\x7e]+$/.test(scope))
  if (wrong !== undefined) throw new UsageError(`"${wrong}" is not a scope (RFC 6749 section 3.3).`)
  return [...new Set(scopes)]
}
