import type { Command } from 'commander'
import type { StoredGrant } from '../storage/admin-queries.ts'
import { command, printing, withAdministration, withReadings } from './command.ts'
import { asMinute, asTable } from './table.ts'

/** `holdfast tokens`: what people have granted to applications, and the tokens that follow from it. */
export function tokensCommand(): Command {
  const tokens = command(
    'tokens',
    'Grants of users to applications, and the tokens issued from them.',
    'tokens list --account ada@example.com',
    'tokens list --client web-shop --json',
  )

  tokens.addCommand(
    printing(
      command('list', 'List grants.')
        .option('--account <email>', 'only of this account')
        .option('--client <client_id>', 'only to this application'),
      ({ account, client }: { account?: string; client?: string }) =>
        withReadings((readings) => readings.grants.list({ account, client })),
      (list) =>
        list.length === 0
          ? 'There are no grants.'
          : asTable(
              ['Grant', 'Account', 'Client', 'Since', 'Scopes'],
              list.map((grant) => [
                grant.id,
                grant.email ?? grant.account,
                grant.client,
                asMinute(grant.grantedAt),
                describeScopes(grant),
              ]),
            ),
    ),
  )

  tokens.addCommand(
    printing(
      command(
        'revoke <grant>',
        'Revoke a grant and its tokens by its id. JWT access tokens stay valid until they expire.',
        'tokens revoke GRANT',
      ),
      (id: string) =>
        withAdministration((administration) =>
          administration.grants.revoke(id).then(() => ({ id })),
        ),
      ({ id }) => `Revoked ${id}.`,
    ),
  )

  return tokens
}

function describeScopes({ scopes, resources }: StoredGrant): string {
  const atApis = Object.entries(resources).map(([api, scope]) => `${api}: ${scope}`)
  return [...scopes, ...atApis].join(' ')
}
