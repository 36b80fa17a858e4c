import { randomUUID } from 'node:crypto'
import { isObject, isSafeExponent } from '@holdfast/verify/authorization-server'
import { type ClientMetadata, errors } from 'oidc-provider'
import { displayNameRule, isDisplayName } from '../net/display-name.ts'
import { spellingProblem } from '../net/normal-uri.ts'
import { isOfThisMachine } from '../net/this-machine.ts'
import type { ClientTable } from '../storage/client-table.ts'
import { isStorable } from '../storage/text.ts'
import { withBindingMethod } from './binding-method.ts'
import { clientIdProblem } from './client-id.ts'
import { makeClientSecret } from './client-secret.ts'
import { deviceGrant } from './grant-types.ts'
import { type Profile, withProfile } from './profile.ts'
import { redirectUrisOf } from './redirect-uris.ts'

export type RegistrationErrorCode =
  | 'client_id_taken'
  | 'invalid_client_metadata'
  | 'invalid_redirect_uri'
  | 'unapproved_software_statement'

declare module 'oidc-provider' {
  interface ClientMetadata {
    /** Whether the client came by dynamic registration: nobody here has looked at what it says. */
    self_registered?: true | undefined
  }
}

/** A client cannot be registered as asked. */
export class RegistrationError extends Error {
  override name = 'RegistrationError'
  readonly code: RegistrationErrorCode

  constructor(code: RegistrationErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** Checks metadata as the engine does; a `Provider` is one. */
export interface MetadataValidator {
  readonly Client: new (metadata: ClientMetadata) => { metadata(): ClientMetadata }
  /** The profile of the server, whose algorithms are those of a client that names none. */
  readonly profile?: Profile | undefined
}

/** The most characters that the name of a client may have. */
export const nameLimit = 100

/** How clients authenticate by a secret that they send. */
export const secretMethods: readonly string[] = ['client_secret_basic', 'client_secret_post']

/** RFC 7591 metadata; a client_id is made for a client that names none. */
export type RequestedMetadata = Partial<ClientMetadata>

/** A client that can be stored, and the secret that was made for it: only its digest is stored. */
export interface PreparedClient {
  readonly metadata: ClientMetadata
  readonly secret: string | undefined
}

/**
 * Checks RFC 7591 metadata, and makes a secret for a client that authenticates by one and has none.
 * A client that names no method has a secret, and may send it either way.
 *
 * @param storedSecret what is stored of the secret that the client has already.
 * @throws {@link RegistrationError}
 */
export function prepareClient(
  requested: RequestedMetadata,
  validator: MetadataValidator,
  storedSecret?: string,
): PreparedClient {
  const method = requested.token_endpoint_auth_method ?? 'client_secret_basic'
  const hasSecret = secretMethods.includes(method)
  const generated = hasSecret && storedSecret === undefined ? makeClientSecret() : undefined
  const { client_secret: _, ...rest } = requested
  const metadata = validate(
    {
      ...rest,
      client_id: requested.client_id ?? randomUUID(),
      ...(getsIdTokens(requested) && {
        // OpenID Connect Registration section 2.
        id_token_signed_response_alg:
          requested.id_token_signed_response_alg ??
          ((requested.profile ?? validator.profile) === undefined ? 'RS256' : 'ES256'),
      }),
      ...(hasSecret && { client_secret: generated?.stored ?? storedSecret }),
    },
    validator,
  )
  return { metadata, secret: generated?.secret }
}

function getsIdTokens({ grant_types: grants }: RequestedMetadata): boolean {
  return !Array.isArray(grants) || grants.some((grant) => grant !== 'client_credentials')
}

/**
 * Registers a client for an administrator. The secret is returned once.
 *
 * @throws {@link RegistrationError}
 */
export async function registerClient(
  requested: RequestedMetadata,
  { table, validator }: { table: ClientTable; validator: MetadataValidator },
): Promise<ClientMetadata> {
  if (requested.self_registered !== undefined || requested.open_client !== undefined) {
    throw new RegistrationError(
      'invalid_client_metadata',
      'The client cannot be registered: self_registered and open_client are for clients that come by themselves.',
    )
  }
  if (requested.logo !== undefined) {
    throw new RegistrationError(
      'invalid_client_metadata',
      'The client cannot be registered: logo names an image that is uploaded afterwards.',
    )
  }
  const { metadata, secret } = prepareClient(requested, validator)
  if (!(await table.insert(metadata))) {
    throw new RegistrationError('client_id_taken', `The client_id ${metadata.client_id} is taken.`)
  }
  return { ...metadata, ...(secret !== undefined && { client_secret: secret }) }
}

/** How often a change is tried again that met another one, which has succeeded each time. */
const attempts = 50

/**
 * Replaces the metadata of a client for an administrator, as a whole: what is left out is no longer
 * there. Its secret stays while it authenticates by one, and is in the answer only if it is new.
 *
 * @returns undefined when there is no such client.
 * @throws {@link RegistrationError}
 */
export async function changeClient(
  clientId: string,
  requested: RequestedMetadata,
  { table, validator }: { table: ClientTable; validator: MetadataValidator },
): Promise<ClientMetadata | undefined> {
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const before = await table.find(clientId)
    if (!before) return undefined
    const kept = keptBy(before)
    const changed = kept.find(
      ([name, value]) => requested[name] !== undefined && requested[name] !== value,
    )
    if (changed) {
      throw new RegistrationError(
        'invalid_client_metadata',
        `The client cannot be changed: ${changed[0]} must stay as it is, or be left out.`,
      )
    }
    const asked = { ...requested, ...Object.fromEntries(kept.filter(([, value]) => value)) }
    const { metadata, secret } = prepareClient(asked, validator, before.client_secret)
    const { client_secret: _, ...shown } = metadata
    if (await table.replace(before, metadata)) {
      return { ...shown, ...(secret !== undefined && { client_secret: secret }) }
    }
  }
  throw new Error('the client is changed by too many requests at once')
}

/** By what others know a client, and what says where it came from. */
const keptNames = [
  'client_id',
  'client_id_issued_at',
  'self_registered',
  'open_client',
  'logo',
] as const

const keptBy = (metadata: ClientMetadata) =>
  keptNames.map((name) => [name, metadata[name]] as const)

function validate(metadata: ClientMetadata, validator: MetadataValidator): ClientMetadata {
  if (!isStorableJson(metadata)) {
    throw new RegistrationError(
      'invalid_client_metadata',
      'The client cannot be registered: its metadata has a character that no text may have.',
    )
  }
  try {
    const named = withProfile(withBindingMethod(metadata))
    refuseClientId(metadata)
    refuseUnreadableName(metadata)
    refuseMisspeltRedirects(metadata)
    refusePlainHttp(metadata)
    refusePlainPages(metadata)
    refuseWeakKeys(metadata)
    refuseSectorIdentifier(metadata)
    // The engine's own check decides; what it fills in is left to it, so that its defaults are
    // those of the release that serves.
    new validator.Client(named).metadata()
    return named
  } catch (cause) {
    if (!(cause instanceof errors.OIDCProviderError)) throw cause
    throw new RegistrationError(
      'invalid_client_metadata',
      `The client cannot be registered: ${describe(cause, metadata)}.`,
      { cause },
    )
  }
}

function describe(cause: errors.OIDCProviderError, { grant_types }: ClientMetadata): string {
  const description = cause.error_description ?? cause.message
  const isUnknownGrant = description.startsWith('grant_types can only contain')
  return isUnknownGrant && !description.includes(deviceGrant) && grant_types?.includes(deviceGrant)
    ? `the grant ${deviceGrant} needs HOLDFAST_DEVICE_FLOW=on`
    : description
}

function isStorableJson(value: unknown): boolean {
  if (typeof value === 'string') return isStorable(value)
  if (typeof value !== 'object' || value === null) return true
  return Object.entries(value).flat().every(isStorableJson)
}

function refuseClientId({ client_id: id }: ClientMetadata): void {
  const problem = typeof id === 'string' ? clientIdProblem(id) : 'client_id must be a string'
  if (problem) throw new errors.InvalidClientMetadata(problem)
}

/** People read it on the page that asks for their consent. */
function refuseUnreadableName({ client_name: name }: ClientMetadata): void {
  if (typeof name === 'string' && !isDisplayName(name, nameLimit)) {
    throw new errors.InvalidClientMetadata(`client_name must be ${displayNameRule(nameLimit)}`)
  }
}

/** RFC 9700 section 2.1 has them compared whole; the engine takes any spelling. */
function refuseMisspeltRedirects(metadata: ClientMetadata): void {
  for (const name of ['redirect_uris', 'post_logout_redirect_uris'] as const) {
    const uris: readonly unknown[] = Array.isArray(metadata[name]) ? metadata[name] : []
    for (const uri of uris) {
      const problem = typeof uri === 'string' ? spellingProblem(uri) : 'must be a list of strings'
      if (problem) throw new errors.InvalidClientMetadata(`${name} ${problem}`)
    }
  }
}

/** Pages about the client that people open from ours (RFC 7591 section 2). */
export const pageMembers = ['client_uri', 'policy_uri', 'tos_uri'] as const

function refusePlainPages(metadata: ClientMetadata): void {
  for (const name of pageMembers) {
    const uri: unknown = metadata[name]
    if (uri !== undefined && !isPageUri(uri)) {
      throw new errors.InvalidClientMetadata(`${name} must be an https URL without a user name`)
    }
  }
}

/** Whether it is the address of a page that we link to. */
export function isPageUri(uri: unknown): uri is string {
  const url = typeof uri === 'string' && uri.length <= 2048 ? URL.parse(uri) : null
  return url?.protocol === 'https:' && !url.username && !url.password
}

/** RFC 9700 section 2.6. The engine refuses plain HTTP to native and implicit clients only. */
function refusePlainHttp(metadata: ClientMetadata): void {
  const { jwks_uri } = metadata
  // Anyone who changes these keys on their way authenticates as the client.
  if (typeof jwks_uri === 'string' && URL.parse(jwks_uri)?.protocol === 'http:') {
    throw new errors.InvalidClientMetadata('jwks_uri must be https')
  }
  for (const uri of redirectUrisOf(metadata)) {
    const url = URL.parse(uri)
    if (url?.protocol === 'http:' && !isOfThisMachine(url.hostname)) {
      throw new errors.InvalidClientMetadata('redirect_uris must be https, unless of loopback')
    }
  }
}

/** As in proofs: with a small exponent others may sign in the name of the client. */
function refuseWeakKeys({ jwks }: ClientMetadata): void {
  const keys: readonly unknown[] = Array.isArray(jwks?.keys) ? jwks.keys : []
  const isWeak = (key: unknown) =>
    isObject(key) &&
    key.kty === 'RSA' &&
    typeof key.e === 'string' &&
    !isSafeExponent(Buffer.from(key.e, 'base64url'))
  if (keys.some(isWeak)) {
    throw new errors.InvalidClientMetadata(
      'jwks: the exponent of an RSA key must be odd and at least 65537',
    )
  }
}

/** The engine would fetch it, and nothing here has pairwise subjects. */
function refuseSectorIdentifier({ sector_identifier_uri }: ClientMetadata): void {
  if (sector_identifier_uri !== undefined) {
    throw new errors.InvalidClientMetadata('sector_identifier_uri is for pairwise subjects')
  }
}
