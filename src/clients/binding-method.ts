import { type ClientMetadata, errors, type KoaContextWithOIDC } from 'oidc-provider'
import type { Binding, BindingFlag } from '../bindings/binding.ts'
import { bindings } from '../bindings/bindings.ts'

/**
 * How the tokens of a client are bound to its key. `bearer` means not at all, and exists only for
 * clients that ask for it by name.
 */
export type BindingMethod = Binding['method'] | 'bearer'

export const bindingMethods: readonly BindingMethod[] = [
  ...bindings.map(({ method }) => method),
  'bearer',
]

const everyFlag = bindings.flatMap(({ method, flags }) => flags.map((flag) => ({ method, flag })))

declare module 'oidc-provider' {
  interface ClientMetadata {
    binding_method?: string | undefined
    client_access_token_token_binding_supported?: boolean | undefined
    client_refresh_token_token_binding_supported?: boolean | undefined
  }
}

type BindingMetadata = Pick<ClientMetadata, 'binding_method' | BindingFlag>

/**
 * The binding method that client metadata asks for: `binding_method`, else the flag of RFC 9449
 * section 5.2 or RFC 8705 section 3.4, else DPoP.
 *
 * @throws the engine's `invalid_client_metadata` (RFC 7591 section 3.2.2) for unknown methods and
 *   for metadata that contradicts itself.
 */
export function bindingMethodOf(metadata: BindingMetadata): BindingMethod {
  // False is the default of these flags and says nothing: bearer tokens must be asked for by name.
  const flagged = everyFlag.filter(({ flag }) => metadata[flag])
  const named = metadata.binding_method ?? flagged[0]?.method ?? 'dpop'
  const method = bindingMethods.find((known) => known === named)
  if (!method) {
    throw new errors.InvalidClientMetadata(
      `binding_method must be one of ${bindingMethods.join(', ')}`,
    )
  }
  const other = flagged.find((each) => each.method !== method)
  if (other) {
    throw new errors.InvalidClientMetadata(`${other.flag} contradicts binding_method ${method}`)
  }
  return method
}

/** Whether client metadata says how tokens are bound, by name or by a flag. */
export function namesBinding(metadata: BindingMetadata): boolean {
  return metadata.binding_method !== undefined || everyFlag.some(({ flag }) => metadata[flag])
}

/** Client metadata with the binding method by name, and the RFC flags that follow from it. */
export function withBindingMethod<T extends BindingMetadata>(metadata: T): T {
  const method = bindingMethodOf(metadata)
  const flags = everyFlag.map((each) => [each.flag, each.method === method])
  return { ...metadata, binding_method: method, ...Object.fromEntries(flags) }
}

/** How the tokens of the client that makes this request are bound. */
export function clientBinding(ctx: KoaContextWithOIDC): Binding | 'bearer' {
  // The engine leaves the names of metadata that it does not know as they were registered.
  return bindingOf(ctx.oidc.client as unknown as { binding_method: string })
}

/** The binding of a registered client. */
export function bindingOf({ binding_method }: { binding_method: string }): Binding | 'bearer' {
  const named = bindingMethodOf({ binding_method })
  if (named === 'bearer') return named
  const binding = bindings.find(({ method }) => method === named)
  if (!binding) throw new TypeError(`there is no binding ${named}`)
  return binding
}

/** The clients whose tokens are bound to nothing, because someone asked for that by name. */
export function bearerClientIds(
  clients: readonly { readonly metadata: ClientMetadata }[],
): string[] {
  return clients
    .filter(({ metadata }) => bindingMethodOf(metadata) === 'bearer')
    .map(({ metadata }) => metadata.client_id)
}
