import { styleText } from 'node:util'
import { type Command, Option } from 'commander'
import { command, printing, withAdministration, withReadings } from './command.ts'
import { asCount, asSeconds } from './option-values.ts'
import { asFacts, asMinute, asTable } from './table.ts'

interface CreateOptions {
  group?: string[]
  uses: number
  expires: number
}

/** `holdfast invitations`: codes by which people make accounts for themselves. */
export function invitationsCommand(): Command {
  return command(
    'invitations',
    'Codes by which people make accounts for themselves, where HOLDFAST_SIGN_UP is invitation.',
    'invitations create "Spring course" --group students --uses 30 --expires 14d',
    'invitations list',
  )
    .addCommand(createCommand())
    .addCommand(listCommand())
    .addCommand(revokeCommand())
}

function createCommand(): Command {
  return printing(
    command(
      'create <name>',
      'Generate a code, shown once. Each account that is made with it counts as a use.',
      'invitations create "Spring course" --group students --uses 30 --expires 14d',
    )
      .option('--group <group...>', 'groups of every account that is made with it')
      .option('--uses <number>', 'number of accounts that can be made with it', asCount, 1)
      .addOption(
        new Option('--expires <time>', 'lifetime: 30m, 12h, 7d')
          .argParser(asSeconds)
          .default(7 * 24 * 60 * 60, '7d'),
      ),
    (name: string, { group, uses, expires }: CreateOptions) =>
      withAdministration(({ invitations }) =>
        invitations.create({ name, uses, lifetime: expires, ...(group && { groups: group }) }),
      ),
    ({ code, link, ...stored }) =>
      asFacts(`Created an invitation for ${stored.name}.`, [
        ['Code', `${styleText('bold', code)}  (shown this once)`],
        ['Link', link],
        ['Uses', `${stored.uses}, until ${asMinute(stored.expiresAt)}`],
        ['Groups', stored.groups.join(', ') || 'none'],
      ]),
  )
}

function listCommand(): Command {
  return printing(
    command('list', 'List invitations, oldest first.'),
    () => withReadings(({ invitations }) => invitations.list()),
    (list) =>
      list.length === 0
        ? 'There are no invitations. Create one with: holdfast invitations create NAME'
        : asTable(
            ['Id', 'Name', 'Uses left', 'Until', 'Groups'],
            list.map(({ id, name, uses, usesLeft, expiresAt, groups }) => [
              ...[id, name, `${usesLeft} of ${uses}`, asMinute(expiresAt)],
              groups.join(', '),
            ]),
          ),
  )
}

function revokeCommand(): Command {
  return printing(
    command(
      'revoke <id>',
      'Revoke an invitation by its id: its code and the links that were mailed with it stop working. Accounts that were made with it stay.',
      'invitations revoke ID',
    ),
    (id: string) =>
      withAdministration(({ invitations }) => invitations.revoke(id).then(() => ({ id }))),
    ({ id }) => `Revoked ${id}.`,
  )
}
