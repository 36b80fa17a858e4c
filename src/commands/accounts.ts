import { text } from 'node:stream/consumers'
import { styleText } from 'node:util'
import type { Command } from 'commander'
import { linkLifetimeHours, type MadeLink } from '../accounts/account-links.ts'
import type { RequestedAccount, RequestedChange } from '../administration/accounts.ts'
import type { ResetFactors } from '../storage/account-link-table.ts'
import { type Profile, profileMembers } from '../storage/account-store.ts'
import { accountsExportCommand, accountsImportCommand } from './accounts-transfer.ts'
import { command, printing, UsageError, withAdministration, withReadings } from './command.ts'
import { asFacts, asTable, counted } from './table.ts'

interface ProfileOptions extends Profile {
  username?: string
  name?: string
  group?: string[]
  attribute?: string[]
  emailVerified?: boolean
  phoneVerified?: boolean
}

interface AddOptions extends ProfileOptions {
  passwordStdin?: true
}

interface ChangeOptions extends ProfileOptions {
  email?: string
  withoutGroups?: true
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
      withProfile(
        command(
          'add <email>',
          `Add an account, and print a one-time link in which its user sets a passkey or a password. It works for ${linkLifetimeHours.invitation} hours.`,
          'accounts add ada@example.com --name "Ada Lovelace"',
          'accounts add ada@example.com --group staff --group editors --locale en-GB',
          'accounts add ada@example.com --password-stdin < password.txt',
        ),
      ).option('--password-stdin', 'set the password from standard input, and print no link'),
      async (email: string, { passwordStdin, ...options }: AddOptions) => {
        const password = passwordStdin && (await givenPassword())
        const { profile, ...about } = describedBy(options)
        return withAdministration(({ accounts }) =>
          accounts.add({ ...about, ...profile, email, password } as RequestedAccount),
        )
      },
      ({ email, ...made }) => asFacts(`Added ${email}.`, shownOnce(made)),
    ),
  )

  accounts.addCommand(
    printing(
      withProfile(
        command(
          'change <email>',
          'Change what an account says of its person. An empty value removes it.',
          'accounts change ada@example.com --email-verified --picture https://example.com/ada.png',
          'accounts change ada@example.com --group staff --name ""',
          'accounts change ada@example.com --email ada@example.org',
        ),
      )
        .option('--email <email>', 'another email to sign in with; a mail tells the previous one')
        .option('--no-email-verified', 'it is not known that the address belongs to this person')
        .option('--no-phone-verified', 'it is not known that the phone belongs to this person')
        .option('--without-groups', 'remove it from all groups'),
      async (email: string, { withoutGroups, email: another, ...options }: ChangeOptions) => {
        const change = {
          ...describedBy(options),
          ...(another !== undefined && { email: another }),
          ...(withoutGroups && { groups: [] }),
        }
        return withAdministration(({ accounts }) => accounts.change(email, change))
      },
      ({ email }) => `Changed ${email}.`,
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
              ['Email', 'Name', 'Groups', 'Since', 'State'],
              list.map(({ email, name, groups = [], createdAt, disabled }) => [
                email,
                name ?? '',
                groups.join(', '),
                createdAt.toISOString().slice(0, 10),
                disabled ? 'disabled' : 'active',
              ]),
            ),
    ),
  )

  accounts.addCommand(
    printing(
      command(
        'remove <email>',
        'Remove an account for ever, with its credentials, sessions, grants and tokens. JWT access tokens stay valid until they expire, and the audit trail keeps the id of the account.',
        'accounts remove ada@example.com',
      ),
      (email: string) =>
        withAdministration(async ({ accounts }) => ({ email, ...(await accounts.remove(email)) })),
      ({ email, ended, revoked }) =>
        `Removed ${email}: ended ${counted(ended, 'session')} and ${counted(revoked, 'grant')}.`,
    ),
  )

  accounts.addCommand(accountsImportCommand())
  accounts.addCommand(accountsExportCommand())

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
        'invite <email>',
        `Print a new one-time link in which a user sets a passkey or a password. It works for ${linkLifetimeHours.invitation} hours, the previous link stops working, and using it ends all sessions and grants.`,
        'accounts invite ada@example.com',
      ),
      (email: string) =>
        withAdministration(async ({ accounts }) => ({ email, ...(await accounts.invite(email)) })),
      ({ email, ...made }) => asFacts(`Invited ${email}.`, shownOnce(made)),
    ),
  )

  accounts.addCommand(
    printing(
      command(
        'reset <email>',
        `For a user who can no longer sign in: remove the password, end all sessions and grants, and print a one-time link in which the user sets a passkey or a password. It works for ${linkLifetimeHours.reset} hours.`,
        'accounts reset ada@example.com',
        'accounts reset ada@example.com --passkeys --code-app',
      )
        .option('--passkeys', 'also remove all passkeys')
        .option('--code-app', 'also remove the code app and recovery codes'),
      (email: string, also: Partial<ResetFactors>) =>
        withAdministration(async ({ accounts }) => ({
          email,
          ...(await accounts.reset(email, also)),
        })),
      ({ email, ended, revoked, ...made }) =>
        asFacts(
          `Reset ${email}: ended ${counted(ended, 'session')} and ${counted(revoked, 'grant')}.`,
          shownOnce(made),
        ),
    ),
  )

  accounts.addCommand(
    printing(
      command(
        'set-password <email>',
        'Set a password from standard input, and end all sessions. To let users set their own, use invite or reset.',
        'accounts set-password ada@example.com --password-stdin < password.txt',
      ).requiredOption('--password-stdin', 'read the password from standard input'),
      async (email: string) => {
        const password = await givenPassword()
        await withAdministration(({ accounts }) => accounts.setPassword(email, password))
        return { email }
      },
      ({ email }) => `Set the password of ${email}.`,
    ),
  )

  accounts.addCommand(
    printing(
      command(
        'passkeys <email>',
        'List the passkeys of an account, oldest first, or remove one.',
        'accounts passkeys ada@example.com',
        'accounts passkeys ada@example.com --remove 5f0c2b0e-6d0b-4a0e-9f43-0d6d3c1c9d7e',
      ).option('--remove <id>', 'remove this one, and end all sessions of the account'),
      async (email: string, { remove }: { remove?: string }) => {
        if (remove === undefined) {
          return withReadings((readings) => readings.accounts.listPasskeys(email))
        }
        return withAdministration(async (administration) => {
          await administration.accounts.removePasskey(email, remove)
          return administration.accounts.listPasskeys(email)
        })
      },
      (list) =>
        list.length === 0
          ? 'The account has no passkeys.'
          : asTable(
              ['Id', 'Name', 'Since', 'Last used', 'Copies'],
              list.map(({ id, name, createdAt, lastUsedAt, backedUp, backupEligible }) => [
                id,
                name,
                createdAt.toISOString().slice(0, 10),
                lastUsedAt?.toISOString().slice(0, 10) ?? 'never',
                backedUp ? 'yes' : backupEligible ? 'possible' : 'no',
              ]),
            ),
    ),
  )

  accounts.addCommand(
    printing(
      command(
        'installations <email>',
        'List the copies of applications that hold tokens of an account, or end one.',
        'accounts installations ada@example.com',
        'accounts installations ada@example.com --end 0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I',
      ).option('--end <jkt>', 'end the one with this key'),
      async (email: string, { end }: { end?: string }) => {
        if (end === undefined) {
          return withReadings((readings) => readings.accounts.listInstallations(email))
        }
        return withAdministration(async (administration) => {
          await administration.accounts.endInstallation(email, end)
          return administration.accounts.listInstallations(email)
        })
      },
      (list) =>
        list.length === 0
          ? 'No application holds tokens of the account that are bound to a key.'
          : asTable(
              ['Client', 'Key', 'Since', 'Last used'],
              list.map(({ clientId, jkt, since, lastUsed }) => [
                clientId,
                jkt,
                since.toISOString().slice(0, 10),
                lastUsed.toISOString().slice(0, 10),
              ]),
            ),
    ),
  )

  return accounts
}

/** Adds the options that describe a person. */
function withProfile(to: Command): Command {
  const each = (value: string, before: string[] = []) => [...before, value]
  return to
    .option('--username <name>', 'another name to sign in with, where HOLDFAST_USERNAMES is on')
    .option('--name <name>', 'display name, sent to applications in the name claim')
    .option('--given-name <name>', 'given name')
    .option('--family-name <name>', 'family name')
    .option('--preferred-username <name>', 'name by which the person wants to be referred to')
    .option('--locale <tag>', 'language, such as en-GB')
    .option('--zoneinfo <zone>', 'time zone, such as Europe/Berlin')
    .option('--picture <url>', 'https URL of a picture')
    .option('--phone <number>', 'phone number such as "+49 30 123456"')
    .option('--street-address <text>', 'postal address: street and number')
    .option('--locality <name>', 'postal address: city')
    .option('--region <name>', 'postal address: state or region')
    .option('--postal-code <code>', 'postal address: postal code')
    .option('--country <name>', 'postal address: country')
    .option(
      '--group <name>',
      'group, sent to applications with the scope groups (repeatable)',
      each,
    )
    .option('--attribute <name=value>', 'attribute for custom claims (repeatable)', each)
    .option('--email-verified', 'you know that the address belongs to this person')
    .option('--phone-verified', 'you know that the phone belongs to this person')
}

function describedBy({
  username,
  name,
  group,
  attribute,
  emailVerified,
  phoneVerified,
  ...profile
}: ProfileOptions): RequestedChange {
  // An empty value removes what is there.
  const orNull = (value: string) => value || null
  const given = profileMembers.flatMap((member) => {
    const value = profile[member]
    return value === undefined ? [] : [[member, orNull(value)]]
  })
  return {
    ...(username !== undefined && { username: orNull(username) }),
    ...(name !== undefined && { name: orNull(name) }),
    ...(emailVerified !== undefined && { emailVerified }),
    ...(phoneVerified !== undefined && { phoneVerified }),
    profile: Object.fromEntries(given),
    ...(group && { groups: group }),
    ...(attribute && {
      attributes: Object.fromEntries(
        attribute.map(attributeOf).map(([at, value]) => [at, orNull(value)]),
      ),
    }),
  }
}

function attributeOf(text: string): [name: string, value: string] {
  const at = text.indexOf('=')
  if (at < 1) throw new UsageError(`--attribute ${text} is not NAME=VALUE.`)
  return [text.slice(0, at), text.slice(at + 1)]
}

async function givenPassword(): Promise<string> {
  return (await text(process.stdin)).replace(/\r?\n$/, '')
}

function shownOnce({ link, expiresAt, mailed }: Partial<MadeLink>): [string, string][] {
  if (!link || !expiresAt) return []
  const until = `${expiresAt.toISOString().slice(0, 16).replace('T', ' ')} UTC`
  return [
    ['Link', `${styleText('bold', link)}  (shown this once)`],
    ['Works until', `${until}, once: send it to the user alone`],
    ...(mailed ? [['Mail', 'a server sends it to the user as well'] as [string, string]] : []),
  ]
}
