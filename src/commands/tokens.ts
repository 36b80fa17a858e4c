import { Command } from 'commander'
import { printing, withAdministration } from './command.ts'
import { asTable } from './table.ts'

/** `holdfast tokens`: what people have granted to applications, and the tokens that follow from it. */
export function tokensCommand(): Command {
  const tokens = new Command('tokens').description('what people have granted to applications')

  printing(
    tokens
      .command('list')
      .description('list grants, each the root of its tokens')
      .option('--account <email>', 'those of one account')
      .option('--client <client_id>', 'those to one application'),
    ({ account, client }: { account?: string; client?: string }) =>
      withAdministration((administration) =>
        administration.grants.list({ email: account, client }),
      ),
    (list) =>
      list.length === 0
        ? 'There are no grants.'
        : asTable(
            ['Grant', 'Account', 'Client', 'Since', 'Scopes'],
            list.map(({ id, account, client, grantedAt, scopes, resources }) => [
              id,
              account,
              client,
              grantedAt.toISOString(),
              [
                ...scopes,
                ...Object.entries(resources).map(([api, scope]) => `${api}: ${scope}`),
              ].join(' '),
            ]),
          ),
  )

  printing(
    tokens
      .command('revoke <grant>')
      .description('end the tokens of a grant; JWT access tokens live to their expiry'),
    (id: string) =>
      withAdministration((administration) => administration.grants.revoke(id).then(() => ({ id }))),
    ({ id }) => `Revoked ${id}.`,
  )

  return tokens
}
