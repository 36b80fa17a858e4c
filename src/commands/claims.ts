import type { Command } from 'commander'
import { parseClaimMappings } from '../administration/claims.ts'
import { command, printing, withAdministration, withReadings } from './command.ts'
import { readJsonFile } from './json-file.ts'
import { asTable } from './table.ts'

/** `holdfast claims`: what tokens and UserInfo say beyond the standard claims. */
export function claimsCommand(): Command {
  const claims = command(
    'claims',
    'Custom claims in tokens and UserInfo, by scope and application.',
    'claims list',
    'claims replace claims.json',
  )

  claims.addCommand(
    printing(
      command('list', 'List all custom claims.'),
      () => withReadings((readings) => readings.claims.list()),
      (list) =>
        list.length === 0
          ? 'There are no custom claims. Set them with: holdfast claims replace FILE'
          : asTable(
              ['Claim', 'Scope', 'Client', 'From'],
              list.map(({ claim, scope, client, attribute, value }) => [
                claim,
                scope,
                client ?? 'all',
                attribute === undefined ? JSON.stringify(value) : `attribute ${attribute}`,
              ]),
            ),
    ),
  )

  claims.addCommand(
    printing(
      command(
        'replace <file>',
        'Replace all custom claims with those of a JSON file: a list of ' +
          '{"claim", "scope", "client" (optional), and "attribute" or "value"}.',
        'claims list --json > claims.json',
        'claims replace claims.json',
      ),
      async (file: string) => {
        // What is wrong with the file is said before a database is looked for.
        const mappings = parseClaimMappings(await readJsonFile(file))
        return withAdministration((administration) => administration.claims.replace(mappings))
      },
      (list) => `Set ${list.length} custom claim${list.length === 1 ? '' : 's'}.`,
    ),
  )

  return claims
}
