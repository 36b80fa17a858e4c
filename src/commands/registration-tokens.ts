import { styleText } from 'node:util'
import { type Command, Option } from 'commander'
import type { NewRegistrationToken } from '../administration/registration-tokens.ts'
import { bindingMethods } from '../clients/binding-method.ts'
import {
  defaultPolicy,
  registrableAuthMethods,
  registrableGrantTypes,
} from '../clients/registration-policy.ts'
import type { StoredInitialAccessToken } from '../storage/registration-table.ts'
import { command, printing, withAdministration, withReadings } from './command.ts'
import { asCount, asSeconds } from './option-values.ts'
import { asFacts, asMinute, asTable, type Cell, shown } from './table.ts'

interface AddOptions {
  expires: number
  uses: number
  key?: string
  bearer?: true
  conformant?: true
  grant: NewRegistrationToken['grantTypes']
  auth: NewRegistrationToken['authMethods']
  binding?: NewRegistrationToken['bindingMethods']
  scope?: string[]
  redirectHost?: string[]
}

/** `holdfast registration-tokens`: what lets applications register themselves. */
export function registrationTokensCommand(): Command {
  return command(
    'registration-tokens',
    'Initial access tokens for dynamic client registration (RFC 7591).',
    'registration-tokens add "Shop team" --redirect-host shop.example.com',
    'registration-tokens list',
  )
    .addCommand(addCommand())
    .addCommand(listCommand())
    .addCommand(removeCommand())
}

function addCommand(): Command {
  const choice = (flags: string, what: string, all: readonly string[], chosen: readonly string[]) =>
    new Option(flags, what)
      .choices(all)
      .default(chosen, chosen.length === all.length ? 'all of them' : chosen.join(' '))
  const { grantTypes, authMethods, bindingMethods: bound, scopes } = defaultPolicy
  return printing(
    command(
      'add <name>',
      'Generate a token, shown once. The options limit what an application that registers with it may request.',
      'registration-tokens add "Shop team" --redirect-host shop.example.com',
      'registration-tokens add fleet --uses 500 --expires 30d --auth private_key_jwt',
    )
      .addOption(
        new Option('--expires <time>', 'lifetime: 30m, 12h, 7d')
          .argParser(asSeconds)
          .default(24 * 60 * 60, '24h'),
      )
      .option('--uses <number>', 'number of applications that can register with it', asCount, 1)
      .option(
        '--key <thumbprint>',
        'JWK thumbprint of the only DPoP key that can use it (RFC 7638)',
      )
      .option('--bearer', 'allow it, and the resulting registration token, as bearer tokens')
      .option(
        '--conformant',
        'give applications that name no binding bearer tokens, let them leave out PKCE and nonce, redirect errors to them at once, and let them register with bearer tokens, as OpenID Connect has it: less safe',
      )
      .addOption(choice('--grant <type...>', 'grants', registrableGrantTypes, grantTypes))
      .addOption(
        choice(
          '--auth <method...>',
          'client authentication method',
          registrableAuthMethods,
          authMethods,
        ),
      )
      .addOption(
        new Option(
          '--binding <method...>',
          `how its tokens are bound (default: ${bound.join(' ')}; with --conformant bearer as well)`,
        ).choices(bindingMethods),
      )
      .addOption(
        new Option(
          '--scope <scope...>',
          'scopes of this server and of its APIs ' +
            `(default: ${scopes.join(' ')}; with --conformant address phone as well)`,
        ),
      )
      .option('--redirect-host <host...>', 'host that redirect URIs must have (default: any)'),
    (name: string, options: AddOptions) =>
      withAdministration(({ registrationTokens }) =>
        registrationTokens.add({
          name,
          lifetime: options.expires,
          uses: options.uses,
          bearer: options.bearer ?? false,
          conformant: options.conformant ?? false,
          ...(options.key !== undefined && { jkt: options.key }),
          grantTypes: options.grant,
          authMethods: options.auth,
          ...(options.binding && { bindingMethods: options.binding }),
          ...(options.scope && { scopes: options.scope }),
          ...(options.redirectHost && { redirectHosts: options.redirectHost }),
        }),
      ),
    ({ token, ...stored }) =>
      asFacts(`Generated a registration token for ${stored.name}.`, [
        ['Token', `${styleText('bold', token)}  (shown this once)`],
        ['Uses', `${stored.uses}, until ${asMinute(stored.expiresAt)}`],
        ['Key', shown(describeKey(stored))],
        ['Grants', stored.policy.grantTypes.join(' ')],
        ['Authenticates by', stored.policy.authMethods.join(' ')],
        ['Tokens', describeBindings(stored)],
        ...(stored.policy.conformant
          ? [['Unless named', styleText('yellow', 'bearer (conformant)')] as const]
          : []),
        ['Scopes', stored.policy.scopes.join(' ')],
        ['Redirects', stored.policy.redirectHosts?.join(' ') ?? 'anywhere'],
      ]),
  )
}

function listCommand(): Command {
  return printing(
    command('list', 'List registration tokens, oldest first.'),
    () => withReadings(({ registrationTokens }) => registrationTokens.list()),
    (list) =>
      list.length === 0
        ? 'There are no registration tokens. Add one with: holdfast registration-tokens add NAME'
        : asTable(
            ['Id', 'Name', 'Uses left', 'Until', 'Key'],
            list.map((token) => [
              token.id,
              token.name,
              `${token.usesLeft} of ${token.uses}`,
              asMinute(token.expiresAt),
              describeKey(token),
            ]),
          ),
  )
}

function removeCommand(): Command {
  return printing(
    command(
      'remove <id>',
      'Remove a token by its id. Applications that registered with it stay.',
      'registration-tokens remove ID',
    ),
    (id: string) =>
      withAdministration(({ registrationTokens }) =>
        registrationTokens.remove(id).then(() => ({ id })),
      ),
    ({ id }) => `Removed ${id}.`,
  )
}

function describeKey({ bearer, jkt, policy }: StoredInitialAccessToken): Cell {
  if (policy.conformant) return { text: `${jkt ?? 'none: bearer'}, conformant`, style: 'yellow' }
  if (bearer) return { text: 'none: bearer', style: 'yellow' }
  return jkt ?? 'any'
}

function describeBindings({ policy }: StoredInitialAccessToken): string {
  return policy.bindingMethods
    .map((method) => (method === 'bearer' ? styleText('yellow', method) : method))
    .join(' ')
}
