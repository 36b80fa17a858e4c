/// <reference path="./engine-internals.d.ts" />
import type Provider from 'oidc-provider'
import type { TokenEndpointGrantContext } from 'oidc-provider'
import * as grants from 'oidc-provider/lib/actions/grants/index.js'
import * as helpers from 'oidc-provider/lib/helpers/grants.js'

const engineGrants = Object.values({ ...grants })

/**
 * A grant of the engine with another check of DPoP proofs than the engine's. Its grants take the
 * helpers they work with as a parameter, which the engine binds before anybody can get in between:
 * hence grants and helpers are imported from where the engine has them.
 */
export function engineGrant(
  provider: Provider,
  name: string,
  validateDpop: (ctx: TokenEndpointGrantContext) => helpers.DPoPValidationResult | undefined,
): ((ctx: TokenEndpointGrantContext) => Promise<void>) | undefined {
  const grant = engineGrants.find(({ grantType }) => grantType === name)
  if (!grant) return undefined
  const bound: Record<string, unknown> = {}
  for (const [key, helper] of Object.entries<(...parameters: never[]) => unknown>(helpers)) {
    bound[key] = helper.bind(undefined, provider as never)
  }
  const own = { ...bound, validateDpop }
  return (ctx) => grant.handler(provider, own, ctx)
}
