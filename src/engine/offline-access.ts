import type Provider from 'oidc-provider'
import type { KoaContextWithOIDC } from 'oidc-provider'

/**
 * Lets a request have `offline_access` without `prompt=consent`: like any scope it is then on the
 * consent page unless it was granted before. The engine leaves it out of such requests (OpenID
 * Connect Core section 11), and many libraries cannot send the parameter.
 *
 * What the engine reads before it has found the grant is whether the scope may stay, and afterwards
 * whether the page must be shown: only the first answer is another here.
 */
export function honourOfflineAccess({ OIDCContext: { prototype } }: Provider): void {
  const before = Object.getOwnPropertyDescriptor(prototype, 'prompts')
  if (!before?.get) throw new Error('this release of the engine keeps prompts elsewhere')
  const { get } = before
  Object.defineProperty(prototype, 'prompts', {
    ...before,
    get(this: { readonly entities: { readonly Grant?: unknown } }) {
      const asked: Set<string> = get.call(this)
      return this.entities.Grant ? asked : new WithConsent(asked)
    },
  })
}

/** Prompts of which `consent` is one whenever it is asked for, and that are otherwise what they are. */
class WithConsent extends Set<string> {
  override has(prompt: string): boolean {
    return prompt === 'consent' || super.has(prompt)
  }
}

/**
 * Leaves `offline_access` out of a request with `prompt=none` unless it was granted before: nobody
 * can be asked.
 */
export function leaveOutOfflineAccess(
  { oidc: { params } }: KoaContextWithOIDC,
  grant: InstanceType<Provider['Grant']> | undefined,
): void {
  if (params?.prompt !== 'none' || typeof params.scope !== 'string') return
  if (grant?.getOIDCScope()?.split(' ').includes('offline_access')) return
  const others = params.scope.split(' ').filter((scope) => scope !== 'offline_access')
  params.scope = others.join(' ')
}
