import { readFile } from 'node:fs/promises'
import { Command, Option } from 'commander'
import type { ClientMetadata, JWKS } from 'oidc-provider'
import { administrationLevels } from '../provider/admin-resource.ts'
import { bindingMethodOf, bindingMethods } from '../provider/binding-policy.ts'
import type { RequestedMetadata } from '../provider/client-registration.ts'
import { printing, UsageError, withAdministration } from './command.ts'
import { asTable } from './table.ts'

interface AddOptions {
  name?: string
  redirectUri: string[]
  postLogoutRedirectUri: string[]
  grant: string[]
  auth: string
  native?: true
  jwks?: string
  jwksUri?: string
  binding: string
  administration?: string
  metadata?: string
}

/** `holdfast clients`: the applications that may ask for tokens. */
export function clientsCommand(): Command {
  const clients = new Command('clients').description('applications that may ask for tokens')
  const each = (value: string, before: string[]) => [...before, value]

  printing(
    clients
      .command('add [client_id]')
      .description('register an application; a client_id is made if none is given')
      .option('--name <name>', 'the name that people are shown')
      .option('--redirect-uri <uri>', 'where codes may be sent (repeatable)', each, [])
      .option('--post-logout-redirect-uri <uri>', 'where logout may end (repeatable)', each, [])
      .addOption(
        new Option(
          '--grant <type>',
          'a grant it may use (repeatable); by default authorization_code and refresh_token ' +
            'with a redirect URI, else client_credentials',
        )
          .choices(['authorization_code', 'refresh_token', 'client_credentials'])
          .argParser(each)
          .default([]),
      )
      .addOption(
        new Option('--auth <method>', 'how it authenticates')
          .choices(['none', 'client_secret_basic', 'private_key_jwt'])
          .default('client_secret_basic'),
      )
      .addOption(
        new Option('--binding <method>', 'what its tokens are bound to; bearer: to nothing')
          .choices(bindingMethods)
          .default('dpop'),
      )
      .addOption(
        new Option('--administration <level>', 'what it may do at the admin API').choices(
          administrationLevels,
        ),
      )
      .option('--native', 'a native application: loopback redirect URIs on any port (RFC 8252)')
      .option('--jwks <file>', 'its public keys, a JWK Set file')
      .option('--jwks-uri <uri>', 'its public keys, by URL')
      .option('--metadata <file>', 'RFC 7591 client metadata; the other options are left aside'),
    (clientId: string | undefined, options: AddOptions) =>
      withAdministration(async ({ clients }) =>
        clients.add(await requestedMetadata(clientId, options)),
      ),
    describeNew,
  )

  printing(
    clients.command('list').description('list all applications'),
    () => withAdministration(({ clients }) => clients.list()),
    (list) =>
      list.length === 0
        ? 'There are no clients. Add one with: holdfast clients add --redirect-uri URI'
        : asTable(
            ['Client', 'Name', 'Binding', 'Authenticates by', 'Grants'],
            list.map((metadata) => [
              metadata.client_id,
              metadata.client_name ?? '',
              describeBinding(metadata),
              metadata.token_endpoint_auth_method ?? '',
              (metadata.grant_types ?? []).join(' '),
            ]),
          ),
  )

  printing(
    clients.command('show <client_id>').description('show all metadata of an application'),
    (clientId: string) => withAdministration(({ clients }) => clients.show(clientId)),
    (metadata) =>
      asTable(
        ['Metadata', 'Value'],
        Object.entries(metadata).map(([name, value]) => [
          name,
          typeof value === 'string' ? value : JSON.stringify(value),
        ]),
      ),
  )

  printing(
    clients.command('remove <client_id>').description('remove an application; its tokens stop'),
    (clientId: string) =>
      withAdministration(({ clients }) =>
        clients.remove(clientId).then(() => ({ client_id: clientId })),
      ),
    ({ client_id }) => `Removed ${client_id}.`,
  )

  return clients
}

async function requestedMetadata(
  clientId: string | undefined,
  options: AddOptions,
): Promise<RequestedMetadata> {
  const id = clientId === undefined ? {} : { client_id: clientId }
  if (options.metadata) {
    return { ...((await readJson(options.metadata)) as RequestedMetadata), ...id }
  }
  const { redirectUri: redirect_uris, postLogoutRedirectUri, name, jwksUri } = options
  const grant_types =
    options.grant.length > 0
      ? options.grant
      : redirect_uris.length > 0
        ? ['authorization_code', 'refresh_token']
        : ['client_credentials']
  return {
    ...id,
    ...(name === undefined ? {} : { client_name: name }),
    redirect_uris,
    post_logout_redirect_uris: postLogoutRedirectUri,
    grant_types,
    response_types: grant_types.includes('authorization_code') ? ['code'] : [],
    token_endpoint_auth_method: options.auth as 'none',
    application_type: options.native ? 'native' : 'web',
    binding_method: options.binding,
    ...(options.administration === undefined ? {} : { administration: options.administration }),
    ...(options.jwks === undefined ? {} : { jwks: (await readJson(options.jwks)) as JWKS }),
    ...(jwksUri === undefined ? {} : { jwks_uri: jwksUri }),
  }
}

async function readJson(file: string): Promise<object> {
  try {
    const value: unknown = JSON.parse(await readFile(file, 'utf8'))
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  } catch (error) {
    throw new UsageError(`${file} cannot be read: ${(error as Error).message}.`)
  }
  throw new UsageError(`${file} does not hold a JSON object.`)
}

function describeNew(metadata: ClientMetadata): string {
  return [
    `Registered ${metadata.client_id}.`,
    `Tokens:        ${describeBinding(metadata)}`,
    `Authenticates: ${metadata.token_endpoint_auth_method}`,
    ...(metadata.client_secret ? [`Secret:        ${metadata.client_secret}  (shown once)`] : []),
  ].join('\n')
}

function describeBinding(metadata: ClientMetadata): string {
  const method = bindingMethodOf(metadata)
  return method === 'bearer' ? 'bearer (bound to nothing)' : `bound by ${method}`
}
