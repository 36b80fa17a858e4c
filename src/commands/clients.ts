import { readFile } from 'node:fs/promises'
import { styleText } from 'node:util'
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { ClientMetadata, JWKS } from 'oidc-provider'
import type { SubjectProperty } from '../certificates/subject.ts'
import { bindingMethodOf, bindingMethods } from '../clients/binding-method.ts'
import { type RequestedMetadata, secretMethods } from '../clients/client-registration.ts'
import { cibaGrant, deviceGrant } from '../clients/grant-types.ts'
import { profiles, refreshPolicies } from '../clients/profile.ts'
import { type SigningAlgorithm, signingAlgorithms } from '../config/signing-algorithms.ts'
import { administrationLevels } from '../engine/admin-resource.ts'
import {
  CommandError,
  command,
  printing,
  UsageError,
  withAdministration,
  withReadings,
} from './command.ts'
import { readJsonFile } from './json-file.ts'
import { asFacts, asTable, type Cell, shown } from './table.ts'

const grantTypes = [
  'authorization_code',
  'refresh_token',
  'client_credentials',
  deviceGrant,
  cibaGrant,
]

interface AddOptions {
  name?: string
  redirectUri?: string[]
  postLogoutRedirectUri?: string[]
  grant?: string[]
  auth?: string
  profile?: string
  refreshTokens?: string
  certificateName?: Partial<ClientMetadata>
  native?: true
  jwks?: string
  jwksUri?: string
  binding: string
  idTokenAlg?: string
  withoutPkce?: true
  withoutNonce?: true
  idTokenClaims?: true
  backchannelLogoutUri?: string
  notificationEndpoint?: string
  frontchannelLogoutUri?: string
  skipConsent?: true
  defaultResource?: string
  defaultScope?: string
  administration?: string
}

/** `holdfast clients`: the applications that may ask for tokens. */
export function clientsCommand(): Command {
  return command(
    'clients',
    'Applications that can request tokens.',
    'clients add --redirect-uri https://app.example.com/callback',
    'clients list',
    'clients show first-app',
  )
    .addCommand(addCommand())
    .addCommand(listCommand())
    .addCommand(showCommand())
    .addCommand(changeCommand())
    .addCommand(logoCommand())
    .addCommand(renewSecretCommand())
    .addCommand(removeCommand())
}

function addCommand(): Command {
  const each = (value: string, before: string[] = []) => [...before, value]
  const add = command(
    'add [client_id]',
    'Register an application. Without a client_id, one is generated.',
    'clients add web-shop --redirect-uri https://shop.example.com/callback',
    'clients add phone-app --native --auth none --redirect-uri com.example.app:/callback',
    'clients add bank --profile fapi2 --jwks keys.json --redirect-uri https://bank.example.com/cb',
    'clients add nightly-job --auth private_key_jwt --jwks public-keys.json',
    'clients add ledger --auth tls_client_auth --certificate-name dns:ledger.example.com',
    'clients add --metadata client.json',
  )
    .option('--name <name>', 'name shown to users')
    .option('--redirect-uri <uri>', 'redirect URI for authorization responses (repeatable)', each)
    .option('--post-logout-redirect-uri <uri>', 'redirect URI after logout (repeatable)', each)
    .option(
      '--grant <type>',
      `allowed grant type (repeatable): ${grantTypes.join(', ')}. Default: the first two ` +
        'with a redirect URI, else client_credentials. The last is for devices without a browser',
      eachGrant,
    )
    .addOption(
      new Option(
        '--auth <method>',
        'client authentication method. Default: a secret, in the header or in the body',
      ).choices([
        'none',
        'client_secret_basic',
        'client_secret_post',
        'private_key_jwt',
        'tls_client_auth',
        'self_signed_tls_client_auth',
      ]),
    )
    .addOption(
      new Option('--profile <name>', 'rules that all of its requests must follow').choices(
        profiles,
      ),
    )
    .addOption(
      new Option(
        '--refresh-tokens <policy>',
        'whether each refresh replaces the refresh token. Default: rotate, or keep with --profile fapi2',
      ).choices(refreshPolicies),
    )
    .addOption(
      new Option('--binding <method>', 'how its tokens are bound ("bearer": not bound)')
        .choices(bindingMethods)
        .default('dpop'),
    )
    .addOption(
      new Option('--id-token-alg <alg>', 'signature algorithm of its ID tokens').choices(
        signingAlgorithms,
      ),
    )
    .option('--default-resource <uri>', 'API of requests that name none by resource')
    .option('--default-scope <scopes>', 'scopes of requests that name none')
    .option('--skip-consent', 'do not ask users for their consent: for applications of your own')
    .option('--id-token-claims', 'put the claims of all scopes into ID tokens, as for Auth.js')
    .option('--backchannel-logout-uri <uri>', 'https URL that receives logout tokens')
    .option(
      '--notification-endpoint <uri>',
      'https URL that is notified of decisions (CIBA in ping mode)',
    )
    .option('--frontchannel-logout-uri <uri>', 'https URL that browsers open after a sign-out')
    .option('--without-pkce', 'accept requests with a nonce and without PKCE: less safe')
    .option(
      '--without-nonce',
      'with --without-pkce: accept requests without a nonce as well, in which a stolen code ' +
        'can be injected: for the conformance suite',
    )
    .addOption(
      new Option('--administration <level>', 'access to the admin API').choices(
        administrationLevels,
      ),
    )
    .addOption(
      new Option(
        '--certificate-name <kind:name>',
        'name that its certificate must have for tls_client_auth: dn:CN=app,O=Example ' +
          '(RFC 4514), dns:…, uri:…, ip:… or email:…',
      ).argParser(certificateName),
    )
    .option('--native', 'a native application: loopback redirect URIs on any port (RFC 8252)')
    .addOption(
      new Option('--jwks <file>', 'file with its public keys (JWK Set)').conflicts('jwksUri'),
    )
    .option('--jwks-uri <uri>', 'URL of its public keys (JWK Set)')
    .option(
      '--metadata <file>',
      'file with client metadata (RFC 7591), instead of the other options',
    )
  return printing(
    add,
    async (clientId: string | undefined, options: AddOptions & { metadata?: string }) => {
      const { metadata: file } = options
      if (file !== undefined) refuseOthers(add, ['metadata', 'json'])
      const described = file === undefined ? await describedBy(options) : await readJson(file)
      const requested = clientId === undefined ? described : { ...described, client_id: clientId }
      return withAdministration(({ clients }) => clients.add(requested))
    },
    (metadata) => describe(`Registered ${metadata.client_id}.`, metadata),
  )
}

function listCommand(): Command {
  return printing(
    command('list', 'List all applications, oldest first.'),
    () => withReadings(({ clients }) => clients.list()),
    (list) =>
      list.length === 0
        ? 'There are no clients. Add one with: holdfast clients add --redirect-uri URI'
        : asTable(
            ['Client', 'Name', 'Tokens', 'Authenticates by', 'Grants', 'Profile', 'Registered by'],
            list.map(({ metadata }) => [
              metadata.client_id,
              metadata.client_name ?? '',
              describeBinding(metadata),
              `${describeAuthentication(metadata)}${metadata.require_pkce === false ? ', no PKCE' : ''}${metadata.require_nonce === false ? ', no nonce' : ''}${metadata.skip_consent ? ', no consent' : ''}`,
              (metadata.grant_types ?? []).join(' '),
              metadata.profile ?? '',
              metadata.self_registered ? 'itself' : 'administrator',
            ]),
          ),
  )
}

function showCommand(): Command {
  return printing(
    command(
      'show <client_id>',
      "Show an application's metadata. Its secret is stored as a hash and cannot be shown.",
      'clients show first-app --json',
    ),
    (clientId: string) => withReadings(({ clients }) => clients.show(clientId)),
    (metadata) =>
      asTable(
        ['Metadata', 'Value'],
        Object.entries(metadata).map(([name, value]) => [
          name,
          name === 'binding_method'
            ? describeBinding(metadata)
            : ['require_pkce', 'require_nonce'].includes(name) && value === false
              ? notRequired
              : name === 'skip_consent' && value === true
                ? withoutConsent
                : typeof value === 'string'
                  ? value
                  : JSON.stringify(value),
        ]),
      ),
  )
}

function changeCommand(): Command {
  return printing(
    command(
      'change <client_id>',
      "Replace an application's metadata with the contents of a file. Omitted members are removed. The secret is kept.",
      'clients show web-shop --json > web-shop.json',
      'clients change web-shop --metadata web-shop.json',
    ).requiredOption('--metadata <file>', 'file with client metadata (RFC 7591)'),
    async (clientId: string, { metadata }: { metadata: string }) => {
      const requested = await readJson(metadata)
      return withAdministration(({ clients }) => clients.change(clientId, requested))
    },
    (metadata) => describe(`Changed ${metadata.client_id}.`, metadata),
  )
}

function renewSecretCommand(): Command {
  return printing(
    command(
      'renew-secret <client_id>',
      'Generate a new secret, shown once. The previous secret stops working.',
      'clients renew-secret web-shop',
    ),
    (clientId: string) => withAdministration(({ clients }) => clients.renewSecret(clientId)),
    ({ client_id, client_secret }) =>
      asFacts(`Generated a new secret for ${client_id}.`, [
        ['Secret', `${styleText('bold', client_secret)}  (shown this once)`],
      ]),
  )
}

function logoCommand(): Command {
  return printing(
    command(
      'logo <client_id> [file]',
      'Set the logo that users see at consent: PNG, JPEG, GIF or WebP, 32 KiB at most.',
      'clients logo web-shop logo.png',
      'clients logo web-shop --remove',
    ).option('--remove', 'remove the logo instead'),
    async (clientId: string, file: string | undefined, { remove }: { remove?: true }) => {
      if ((file === undefined) === (remove === undefined)) {
        throw new UsageError('Name a file, or use --remove.')
      }
      const bytes = file === undefined ? undefined : await readBytes(file)
      return withAdministration(async ({ clients }) => {
        if (bytes) await clients.setLogo(clientId, bytes)
        else await clients.removeLogo(clientId)
        return { client_id: clientId, removed: bytes === undefined }
      })
    },
    ({ client_id, removed }) => `${removed ? 'Removed' : 'Set'} the logo of ${client_id}.`,
  )
}

function readBytes(file: string): Promise<Buffer> {
  return readFile(file).catch(({ code }: NodeJS.ErrnoException) => {
    throw new CommandError(`${file} cannot be read (${code}).`)
  })
}

function removeCommand(): Command {
  return printing(
    command(
      'remove <client_id>',
      'Remove an application and revoke its tokens.',
      'clients remove web-shop',
    ),
    (clientId: string) =>
      withAdministration(({ clients }) =>
        clients.remove(clientId).then(() => ({ client_id: clientId })),
      ),
    ({ client_id }) => `Removed ${client_id}.`,
  )
}

function eachGrant(value: string, before: string[] = []): string[] {
  if (!grantTypes.includes(value)) {
    throw new InvalidArgumentError(`Allowed choices are ${grantTypes.join(', ')}.`)
  }
  return [...before, value]
}

function refuseOthers(command: Command, allowed: readonly string[]): void {
  const other = command.options.find(
    (option) =>
      !allowed.includes(option.attributeName()) &&
      command.getOptionValueSource(option.attributeName()) === 'cli',
  )
  if (other) throw new UsageError(`--metadata and ${other.long} cannot be used together.`)
}

async function describedBy(options: AddOptions): Promise<RequestedMetadata> {
  const { redirectUri: redirect_uris = [], postLogoutRedirectUri = [], name, jwksUri } = options
  const grant_types =
    options.grant ??
    (redirect_uris.length > 0 ? ['authorization_code', 'refresh_token'] : ['client_credentials'])
  return {
    ...(name === undefined ? {} : { client_name: name }),
    redirect_uris,
    post_logout_redirect_uris: postLogoutRedirectUri,
    grant_types,
    response_types: grant_types.includes('authorization_code') ? ['code'] : [],
    ...(options.auth === undefined && options.profile === undefined
      ? {}
      : { token_endpoint_auth_method: (options.auth ?? 'private_key_jwt') as 'none' }),
    ...(options.profile === undefined ? {} : { profile: options.profile }),
    ...(options.refreshTokens === undefined ? {} : { refresh_tokens: options.refreshTokens }),
    application_type: options.native ? 'native' : 'web',
    binding_method: options.binding,
    ...(options.idTokenAlg === undefined
      ? {}
      : { id_token_signed_response_alg: options.idTokenAlg as SigningAlgorithm }),
    ...(options.defaultResource !== undefined && { default_resource: options.defaultResource }),
    ...(options.defaultScope !== undefined && { default_scope: options.defaultScope }),
    ...(options.withoutPkce && { require_pkce: false }),
    ...(options.withoutNonce && { require_nonce: false }),
    ...(options.idTokenClaims && { id_token_claims: true }),
    ...(options.backchannelLogoutUri && {
      backchannel_logout_uri: options.backchannelLogoutUri,
    }),
    ...(options.notificationEndpoint && {
      backchannel_token_delivery_mode: 'ping' as const,
      backchannel_client_notification_endpoint: options.notificationEndpoint,
    }),
    ...(options.frontchannelLogoutUri && {
      frontchannel_logout_uri: options.frontchannelLogoutUri,
    }),
    ...(options.skipConsent && { skip_consent: true }),
    ...(options.administration === undefined ? {} : { administration: options.administration }),
    ...options.certificateName,
    ...(options.jwks === undefined ? {} : { jwks: (await readJson(options.jwks)) as JWKS }),
    ...(jwksUri === undefined ? {} : { jwks_uri: jwksUri }),
  }
}

const certificateNames: Record<string, SubjectProperty> = {
  dn: 'tls_client_auth_subject_dn',
  dns: 'tls_client_auth_san_dns',
  uri: 'tls_client_auth_san_uri',
  ip: 'tls_client_auth_san_ip',
  email: 'tls_client_auth_san_email',
}

function certificateName(text: string): Partial<ClientMetadata> {
  const [, kind = '', name = ''] = /^(\w+):(.+)$/.exec(text) ?? []
  const property = certificateNames[kind]
  if (!property) throw new InvalidArgumentError('Write dn:, dns:, uri:, ip: or email: before it.')
  return { [property]: name }
}

async function readJson(file: string): Promise<object> {
  const value = await readJsonFile(file)
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  throw new CommandError(`${file} does not hold a JSON object.`)
}

function describe(sentence: string, metadata: ClientMetadata): string {
  const { client_secret } = metadata
  return asFacts(sentence, [
    ['Tokens', shown(describeBinding(metadata))],
    ...(metadata.profile === undefined ? [] : [['Profile', metadata.profile] as const]),
    ['Grants', (metadata.grant_types ?? []).join(' ')],
    ['Authenticates by', describeAuthentication(metadata)],
    ...(metadata.require_pkce === false ? [['PKCE', shown(notRequired)] as const] : []),
    ...(metadata.require_nonce === false ? [['Nonce', shown(notRequired)] as const] : []),
    ...(metadata.skip_consent ? [['Consent', shown(withoutConsent)] as const] : []),
    ...(client_secret
      ? [['Secret', `${styleText('bold', client_secret)}  (shown this once)`] as const]
      : []),
  ])
}

/** A client that has named no method may send its secret either way. */
function describeAuthentication({ token_endpoint_auth_method: method }: ClientMetadata): string {
  return method === 'none' ? 'nothing (public client)' : (method ?? secretMethods.join(' or '))
}

const notRequired: Cell = { text: 'NOT REQUIRED', style: 'red' }

const withoutConsent: Cell = { text: 'NOT ASKED', style: 'red' }

/** The unsafe one stands out wherever it is shown. */
function describeBinding(metadata: ClientMetadata): Cell {
  const method = bindingMethodOf(metadata)
  return method === 'bearer' ? { text: 'BEARER, not bound', style: 'red' } : `bound by ${method}`
}
