import type { Command } from 'commander'
import type { StoredGrant } from '../storage/issued-table.ts'
import { command, printing, withAdministration, withReadings } from './command.ts'
import { asMinute, asTable } from './table.ts'

/** `holdfast tokens`: what people have granted to applications, and the tokens that follow from it. */
export function tokensCommand(): Command {
  const tokens = command(
    'tokens',
    'What people have granted to applications: each grant is the root of its tokens.',
    'tokens list --account ada@example.com',
    'tokens list --client web-shop --json',
  )

  tokens.addCommand(
    printing(
      command('list', 'List grants.')
        .option('--account <email>', 'those of one account')
        .option('--client <client_id>', 'those to one application'),
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
        'End the tokens of a grant, by its id in the list. JWT access tokens end when they expire.',
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
