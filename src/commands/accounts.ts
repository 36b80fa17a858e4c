import { text } from 'node:stream/consumers'
import { Command } from 'commander'
import { printing, withAdministration } from './command.ts'
import { asTable } from './table.ts'

/** `holdfast accounts`: the people who can sign in. */
export function accountsCommand(): Command {
  const accounts = new Command('accounts').description('people who can sign in')

  printing(
    accounts
      .command('add <email>')
      .description('add an account, with a password that is made and shown once')
      .option('--name <name>', 'the name that applications are told')
      .option('--password-stdin', 'read the password from standard input'),
    (email: string, options: { name?: string; passwordStdin?: true }) =>
      withAdministration(async (administration) => {
        const password = await givenPassword(options)
        return administration.accounts.add({ email, name: options.name, password })
      }),
    ({ email, password }) =>
      [`Added ${email}.`, ...(password ? [`Password: ${password}`] : [])].join('\n'),
  )

  printing(
    accounts.command('list').description('list all accounts'),
    () => withAdministration((administration) => administration.accounts.list()),
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
  )

  printing(
    accounts
      .command('disable <email>')
      .description('end sign-in, refresh tokens and opaque access tokens of an account'),
    (email: string) =>
      withAdministration((administration) =>
        administration.accounts.disable(email).then(() => ({ email })),
      ),
    ({ email }) => `Disabled ${email}.`,
  )

  printing(
    accounts.command('enable <email>').description('let a disabled account sign in again'),
    (email: string) =>
      withAdministration((administration) =>
        administration.accounts.enable(email).then(() => ({ email })),
      ),
    ({ email }) => `Enabled ${email}.`,
  )

  printing(
    accounts
      .command('set-password <email>')
      .description('set a new password, made and shown once')
      .option('--password-stdin', 'read the password from standard input'),
    (email: string, options: { passwordStdin?: true }) =>
      withAdministration(async (administration) => {
        const given = await givenPassword(options)
        return { email, ...(await administration.accounts.setPassword(email, given)) }
      }),
    ({ email, password }) =>
      [`Set the password of ${email}.`, ...(password ? [`Password: ${password}`] : [])].join('\n'),
  )

  return accounts
}

async function givenPassword({ passwordStdin }: { passwordStdin?: true }) {
  return passwordStdin ? (await text(process.stdin)).replace(/\r?\n$/, '') : undefined
}
