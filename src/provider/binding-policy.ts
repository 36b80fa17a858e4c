import { type ClientMetadata, errors, type KoaContextWithOIDC } from 'oidc-provider'
import type { Proofs } from '../http/edge.ts'
import type { Binding, BindingFlag } from './bindings/binding.ts'
import { dpopBinding } from './bindings/dpop.ts'
import { invalidGrant } from './bindings/invalid-grant.ts'
import { mtlsBinding } from './bindings/mtls.ts'
import { tokenBindingBinding } from './bindings/token-binding.ts'

const bindings: readonly Binding[] = [dpopBinding, mtlsBinding, tokenBindingBinding]

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

/** Client metadata with the binding method by name, and the RFC flags that follow from it. */
export function withBindingMethod<T extends BindingMetadata>(metadata: T): T {
  const method = bindingMethodOf(metadata)
  const flags = everyFlag.map((each) => [each.flag, each.method === method])
  return { ...metadata, binding_method: method, ...Object.fromEntries(flags) }
}

/**
 * Refuses a token request that lacks the proof its client's binding method asks for, before a code
 * or refresh token is looked up, let alone consumed. What the proof says is checked by the engine
 * after this, and before it looks anything up.
 *
 * @throws the engine's `invalid_grant`.
 */
export function requireProof(ctx: KoaContextWithOIDC, proofs: Proofs): void {
  const binding = clientBinding(ctx)
  if (binding && !binding.hasProof(ctx, proofs)) throw invalidGrant(binding.missing)
}

/** The keys that a credential is bound to. */
export type BoundCredential = { [Confirmation in Binding['confirmation']]?: string | undefined }

/**
 * Whether a request shows every key that a credential is bound to, whatever the client is registered
 * for by now. That its proofs are good is verified elsewhere.
 */
export async function showsKeysOf(
  credential: BoundCredential,
  ctx: KoaContextWithOIDC,
  proofs: Proofs,
): Promise<boolean> {
  for (const { confirmation, presented } of bindings) {
    const key = credential[confirmation]
    if (key !== undefined && key !== (await presented(ctx, proofs))) return false
  }
  return true
}

/** How the tokens of the client that makes this request are bound; undefined for bearer tokens. */
export function clientBinding(ctx: KoaContextWithOIDC): Binding | undefined {
  // The engine leaves the names of metadata that it does not know as they were registered.
  const { binding_method } = ctx.oidc.client as unknown as { binding_method: string }
  const named = bindingMethodOf({ binding_method })
  return bindings.find(({ method }) => method === named)
}
