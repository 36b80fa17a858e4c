import { text } from 'node:stream/consumers'
import { styleText } from 'node:util'
import type { Command } from 'commander'
import { command, printing, withAdministration, withReadings } from './command.ts'
import { asFacts, asTable } from './table.ts'

interface AddOptions {
  name?: string
  emailVerified?: true
  passwordStdin?: true
}

/** `holdfast accounts`: the people who can sign in. */
export function accountsCommand(): Command {
  const accounts = command(
    'accounts',
    'Accounts of users.',
    'accounts add ada@example.com --name "Ada Lovelace"',
    'accounts list',
    'accounts disable ada@example.com',
  )

  accounts.addCommand(
    printing(
      command(
        'add <email>',
        'Add an account with a generated password, shown once.',
        'accounts add ada@example.com --name "Ada Lovelace"',
        'accounts add ada@example.com --password-stdin < password.txt',
      )
        .option('--name <name>', 'display name, sent to applications in the name claim')
        .option('--email-verified', 'you know that the address belongs to this person')
        .option('--password-stdin', 'read the password from standard input'),
      async (email: string, options: AddOptions) => {
        const password = await givenPassword(options)
        return withAdministration(({ accounts }) =>
          accounts.add({
            ...{ email, name: options.name, password },
            emailVerified: options.emailVerified,
          }),
        )
      },
      ({ email, password }) => asFacts(`Added ${email}.`, shownOnce(password)),
    ),
  )

  accounts.addCommand(
    printing(
      command('list', 'List all accounts, oldest first.'),
      () => withReadings((readings) => readings.accounts.list()),
      (list) =>
        list.length === 0
          ? 'There are no accounts. Add one with: holdfast accounts add EMAIL'
          : asTable(
              ['Email', 'Name', 'Since', 'State'],
              list.map(({ email, name, createdAt, disabled }) => [
                email,
                name ?? '',
                createdAt.toISOString().slice(0, 10),
                disabled ? 'disabled' : 'active',
              ]),
            ),
    ),
  )

  accounts.addCommand(
    printing(
      command(
        'disable <email>',
        'Disable an account: end its sessions and revoke its refresh tokens and opaque access tokens. JWT access tokens stay valid until they expire.',
        'accounts disable ada@example.com',
      ),
      (email: string) =>
        withAdministration((administration) =>
          administration.accounts.disable(email).then(() => ({ email })),
        ),
      ({ email }) => `Disabled ${email}.`,
    ),
  )

  accounts.addCommand(
    printing(
      command('enable <email>', 'Enable a disabled account.', 'accounts enable ada@example.com'),
      (email: string) =>
        withAdministration((administration) =>
          administration.accounts.enable(email).then(() => ({ email })),
        ),
      ({ email }) => `Enabled ${email}.`,
    ),
  )

  accounts.addCommand(
    printing(
      command(
        'sign-out <email>',
        'End all sessions of an account. Applications with offline access keep their tokens.',
        'accounts sign-out ada@example.com',
        'accounts sign-out ada@example.com --tokens',
      ).option(
        '--tokens',
        'also revoke all tokens; JWT access tokens stay valid until they expire',
      ),
      (email: string, { tokens = false }: { tokens?: boolean }) =>
        withAdministration(async ({ accounts }) => ({
          email,
          ...(await accounts.signOut(email, { tokens })),
        })),
      ({ email, ended, revoked }) =>
        `Signed ${email} out of ${counted(ended, 'browser')}` +
        `${revoked > 0 ? `, and ended ${counted(revoked, 'grant')}` : ''}.`,
    ),
  )

  accounts.addCommand(
    printing(
      command(
        'set-password <email>',
        'Set a new, generated password, shown once.',
        'accounts set-password ada@example.com',
        'accounts set-password ada@example.com --password-stdin < password.txt',
      ).option('--password-stdin', 'read the password from standard input'),
      async (email: string, options: { passwordStdin?: true }) => {
        const given = await givenPassword(options)
        return withAdministration(async ({ accounts }) => ({
          email,
          ...(await accounts.setPassword(email, given)),
        }))
      },
      ({ email, password }) => asFacts(`Set the password of ${email}.`, shownOnce(password)),
    ),
  )

  return accounts
}

async function givenPassword({ passwordStdin }: { passwordStdin?: true }) {
  return passwordStdin ? (await text(process.stdin)).replace(/\r?\n$/, '') : undefined
}

function shownOnce(password: string | undefined): [string, string][] {
  return password ? [['Password', `${styleText('bold', password)}  (shown this once)`]] : []
}

function counted(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? '' : 's'}`
}
