import type { Command } from 'commander'
import { command, printing, withAdministration, withReadings } from './command.ts'
import { asMinute, asTable } from './table.ts'

/** `holdfast sessions`: where people are signed in. */
export function sessionsCommand(): Command {
  const sessions = command(
    'sessions',
    'Sessions of users.',
    'sessions list --account ada@example.com',
  )

  sessions.addCommand(
    printing(
      command('list', 'List sessions.').option('--account <email>', 'only of this account'),
      ({ account }: { account?: string }) =>
        withReadings((readings) => readings.sessions.list({ account })),
      (list) =>
        list.length === 0
          ? 'There are no sessions.'
          : asTable(
              ['Session', 'Account', 'Since', 'Until', 'Bound by', 'Address', 'Clients'],
              list.map(({ id, email, account, signedInAt, expiresAt, ...session }) => [
                id,
                email ?? account,
                asMinute(signedInAt),
                asMinute(expiresAt),
                session.binding ?? '',
                session.address,
                session.clients.join(' '),
              ]),
            ),
    ),
  )

  sessions.addCommand(
    printing(
      command(
        'end <session>',
        'End a session by its id, and revoke the refresh tokens that depend on it.',
        'sessions end SESSION',
      )
        // One in 64 ids begins as an option does.
        .allowUnknownOption(),
      (id: string) =>
        withAdministration((administration) =>
          administration.sessions.end(id).then(() => ({ id })),
        ),
      ({ id }) => `Ended ${id}.`,
    ),
  )

  return sessions
}
