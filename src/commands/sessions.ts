import type { Command } from 'commander'
import { command, printing, withAdministration } from './command.ts'
import { asTable } from './table.ts'

/** `holdfast sessions`: where people are signed in. */
export function sessionsCommand(): Command {
  const sessions = command(
    'sessions',
    'Where people are signed in.',
    'sessions list --account ada@example.com',
  )

  sessions.addCommand(
    printing(
      command('list', 'List sessions.').option('--account <email>', 'those of one account'),
      ({ account }: { account?: string }) =>
        withAdministration((administration) => administration.sessions.list({ email: account })),
      (list) =>
        list.length === 0
          ? 'There are no sessions.'
          : asTable(
              ['Session', 'Account', 'Since', 'Until', 'Bound by', 'Address', 'Clients'],
              list.map(({ id, account, signedInAt, expiresAt, binding, address, clients }) => [
                id,
                account,
                signedInAt.toISOString(),
                expiresAt.toISOString(),
                binding ?? '',
                address,
                clients.join(' '),
              ]),
            ),
    ),
  )

  sessions.addCommand(
    printing(
      command('end <session>', 'End a session, and the refresh tokens that end with it.'),
      (id: string) =>
        withAdministration((administration) =>
          administration.sessions.end(id).then(() => ({ id })),
        ),
      ({ id }) => `Ended ${id}.`,
    ),
  )

  return sessions
}
