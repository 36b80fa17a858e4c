import { type Command, Option } from 'commander'
import { checkResource, readDetailsTypes } from '../administration/resources.ts'
import { type SigningAlgorithm, signingAlgorithms } from '../config/signing-algorithms.ts'
import { command, printing, UsageError, withAdministration, withReadings } from './command.ts'
import { readJsonFile } from './json-file.ts'
import { asFacts, asTable } from './table.ts'

interface AddOptions {
  scope: string[]
  openScope?: string[]
  scopeLabel?: string[]
  name?: string
  alg: SigningAlgorithm
}

/** The first equals sign ends the scope, in which there may be one as well: then use the admin API. */
function labelOf(text: string): [scope: string, label: string] {
  const at = text.indexOf('=')
  if (at < 1) throw new UsageError(`--scope-label ${text} is not SCOPE=SENTENCE.`)
  return [text.slice(0, at), text.slice(at + 1)]
}

/** `holdfast resources`: the APIs that access tokens can be made for (RFC 8707). */
export function resourcesCommand(): Command {
  const resources = command(
    'resources',
    'APIs that access tokens can be issued for (RFC 8707).',
    'resources add https://api.example.com --scope read write',
    'resources list',
  )

  resources.addCommand(
    printing(
      command(
        'add <identifier>',
        'Register an API by its identifier, the URI that clients send as resource.',
        'resources add https://api.example.com --scope read write --name Orders',
      )
        .requiredOption('--scope <scope...>', 'scopes of the API')
        .option(
          '--open-scope <scope...>',
          'those of its scopes that clients may ask for which nobody has registered here',
        )
        .option(
          '--scope-label <label...>',
          'a sentence for a scope, shown at consent: "read=See your orders"',
        )
        .option('--name <name>', 'display name')
        .addOption(
          new Option('--alg <alg>', 'signature algorithm of its access tokens')
            .choices(signingAlgorithms)
            .default('ES256'),
        ),
      async (
        identifier: string,
        { scope: scopes, openScope: openScopes = [], scopeLabel = [], name, alg }: AddOptions,
      ) => {
        const labels = {
          name: name ?? null,
          scopeLabels: Object.fromEntries(scopeLabel.map(labelOf)),
        }
        const resource = { identifier, scopes, openScopes, ...labels, signingAlg: alg }
        // What is wrong with what was typed is said before a database is looked for.
        checkResource(resource)
        return withAdministration(({ resources }) => resources.add(resource))
      },
      ({ identifier, scopes, openScopes, signingAlg }) =>
        asFacts(`Registered ${identifier}.`, [
          ['Scopes', scopes.join(' ')],
          ...(openScopes.length > 0
            ? [['Open to all', openScopes.join(' ')] as [string, string]]
            : []),
          ['Signed by', signingAlg],
        ]),
    ),
  )

  resources.addCommand(
    printing(
      command(
        'types <identifier> <file>',
        'Set the types of authorization details (RFC 9396) of an API, from a JSON file.',
        'resources types https://api.example.com types.json',
      ),
      async (identifier: string, file: string) => {
        const types = readDetailsTypes(await readJsonFile(file))
        return withAdministration(({ resources }) => resources.setDetailsTypes(identifier, types))
      },
      ({ identifier, authorizationDetailsTypes: types }) =>
        asFacts(`Set the types of authorization details of ${identifier}.`, [
          ['Types', Object.keys(types).join(' ') || 'none'],
        ]),
    ),
  )

  resources.addCommand(
    printing(
      command('list', 'List all APIs.'),
      () => withReadings((readings) => readings.resources.list()),
      (list) =>
        list.length === 0
          ? 'There are no APIs. Add one with: holdfast resources add URI --scope SCOPE'
          : asTable(
              ['Identifier', 'Name', 'Scopes', 'Signed by'],
              list.map(({ identifier, name, scopes, signingAlg }) => [
                identifier,
                name ?? '',
                scopes.join(' '),
                signingAlg,
              ]),
            ),
    ),
  )

  resources.addCommand(
    printing(
      command(
        'remove <identifier>',
        'Remove an API. No more tokens are issued for it.',
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
