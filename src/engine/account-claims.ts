/**
 * What UserInfo, and ID tokens that come by the front channel, say of a person, by the same rules as
 * the token endpoint: claims that mappings add, and for a client with `id_token_claims` those of all
 * scopes.
 */
import type Provider from 'oidc-provider'
import { type ClientMetadata, errors } from 'oidc-provider'
import { type MappedClaims, mapped } from '../accounts/claims.ts'
import { ownScopesOf } from '../clients/client-scopes.ts'
import { override } from './override.ts'

declare module 'oidc-provider' {
  interface ClientMetadata {
    /** Whether ID tokens have the claims of all scopes, and not only UserInfo. */
    id_token_claims?: boolean | undefined
  }
}

/** @throws the engine's `invalid_client_metadata`. */
export function checkIdTokenClaims({ id_token_claims: value }: ClientMetadata): void {
  if (value === undefined || typeof value === 'boolean') return
  throw new errors.InvalidClientMetadata('id_token_claims must be a boolean')
}

/**
 * Refuses a request for single claims (OpenID Connect Core section 5.5) of scopes that its client must
 * not ask for.
 *
 * @throws the engine's `invalid_scope`.
 */
export function requireRegisteredClaims(
  { userinfo, id_token }: { readonly userinfo?: unknown; readonly id_token?: unknown },
  client: ClientMetadata,
  claimsByScope: Readonly<Record<string, readonly string[]>>,
): void {
  const allowed = ownScopesOf(client)
  if (!allowed) return
  const asked = new Set([userinfo, id_token].flatMap((part) => Object.keys(part ?? {})))
  for (const [scope, claims] of Object.entries(claimsByScope)) {
    const claim = claims.find((name) => asked.has(name))
    if (claim === undefined || allowed.has(scope)) continue
    throw new errors.InvalidScope(`${claim} is a claim of a scope that is not allowed`, scope)
  }
}

interface EngineClaims {
  readonly available: { readonly [mapped]?: MappedClaims }
  readonly client: { readonly clientId: string }
  scope(value?: string): this
  result(): Promise<Record<string, unknown>>
}

/** Adds what mappings say to the claims of an engine. */
export function addMappedClaims(engine: Provider): void {
  override(engine, 'Claims', (Base) => {
    const Claims = Base as unknown as new (...args: unknown[]) => EngineClaims
    return class extends Claims {
      #scopes: readonly string[] = []

      override scope(value = ''): this {
        this.#scopes = value.split(' ')
        return super.scope(value)
      }

      override async result(): Promise<Record<string, unknown>> {
        const claims = await super.result()
        const { available, client } = this
        const added = available[mapped]?.({ clientId: client.clientId, scopes: this.#scopes })
        return { ...claims, ...added }
      }
    } as unknown as typeof Base
  })
}
