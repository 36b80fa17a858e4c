import { randomUUID } from 'node:crypto'
import { type ClientMetadata, errors } from 'oidc-provider'
import type { ClientTable } from '../storage/client-table.ts'
import { isStorable } from '../storage/text.ts'
import { withBindingMethod } from './binding-policy.ts'
import { makeClientSecret } from './client-secret.ts'

export type RegistrationErrorCode = 'invalid_client_metadata' | 'client_id_taken'

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
}

/** RFC 7591 metadata; a client_id is made for a client that names none. */
export type RequestedMetadata = Partial<ClientMetadata>

/**
 * Registers a client from RFC 7591 metadata. A client that authenticates by secret gets one here:
 * it is returned once, and only its digest is stored.
 *
 * @throws {@link RegistrationError}
 */
export async function registerClient(
  requested: RequestedMetadata,
  { table, validator }: { table: ClientTable; validator: MetadataValidator },
): Promise<ClientMetadata> {
  const method = requested.token_endpoint_auth_method ?? 'client_secret_basic'
  const generated = method === 'client_secret_basic' ? makeClientSecret() : undefined
  const metadata = validate(
    {
      ...requested,
      client_id: requested.client_id ?? randomUUID(),
      token_endpoint_auth_method: method,
      ...(generated && { client_secret: generated.stored }),
    },
    validator,
  )
  if (!(await table.insert(metadata))) {
    throw new RegistrationError('client_id_taken', `The client_id ${metadata.client_id} is taken.`)
  }
  return { ...metadata, ...(generated && { client_secret: generated.secret }) }
}

function validate(metadata: ClientMetadata, validator: MetadataValidator): ClientMetadata {
  if (!isStorableJson(metadata)) {
    throw new RegistrationError(
      'invalid_client_metadata',
      'The client cannot be registered: its metadata has a character that no text may have.',
    )
  }
  try {
    const named = withBindingMethod(metadata)
    refusePlainHttp(metadata)
    // The engine's own check decides; what it fills in is left to it, so that its defaults are
    // those of the release that serves.
    new validator.Client(named).metadata()
    return named
  } catch (cause) {
    if (!(cause instanceof errors.OIDCProviderError)) throw cause
    throw new RegistrationError(
      'invalid_client_metadata',
      `The client cannot be registered: ${cause.error_description ?? cause.message}.`,
      { cause },
    )
  }
}

function isStorableJson(value: unknown): boolean {
  if (typeof value === 'string') return isStorable(value)
  if (typeof value !== 'object' || value === null) return true
  return Object.entries(value).flat().every(isStorableJson)
}

/** RFC 9700 section 2.6. The engine refuses plain HTTP to native and implicit clients only. */
function refusePlainHttp({ redirect_uris }: ClientMetadata): void {
  const loopback = ['localhost', '127.0.0.1', '[::1]']
  for (const uri of Array.isArray(redirect_uris) ? redirect_uris : []) {
    const url = URL.parse(uri)
    if (url?.protocol === 'http:' && !loopback.includes(url.hostname)) {
      throw new errors.InvalidClientMetadata('redirect_uris must be https, unless of loopback')
    }
  }
}
